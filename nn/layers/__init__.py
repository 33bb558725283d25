"""Layers, each a module that reads like its equation."""

from nn.layers.activation import LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from nn.layers.container import Sequential
from nn.layers.dense import Dense, Flatten

__all__ = ["Dense", "Flatten", "LogSoftmax", "ReLU", "Sequential", "Sigmoid", "Softmax", "Tanh"]
