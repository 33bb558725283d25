"""Layers, each a module that reads like its equation."""

from nn.layers.activation import (
    CELU,
    ELU,
    GELU,
    SELU,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
)
from nn.layers.attention import MultiHeadAttention, TransformerBlock
from nn.layers.container import ModuleDict, ModuleList, Residual, Sequential
from nn.layers.convolution import Conv1d, Conv2d, ConvTranspose2d
from nn.layers.dense import Dense, Flatten
from nn.layers.dropout import Dropout
from nn.layers.embedding import Embedding
from nn.layers.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from nn.layers.pooling import AvgPool2d, GlobalAvgPool, MaxPool2d
from nn.layers.recurrent import GRU, LSTM, RNN
from nn.layers.sparse import SparseDense

__all__ = [
    "CELU", "ELU", "GELU", "GRU", "LSTM", "RNN", "SELU", "AvgPool2d", "BatchNorm", "Conv1d",
    "Conv2d", "ConvTranspose2d", "Dense", "Dropout", "Embedding", "Flatten", "GlobalAvgPool",
    "GroupNorm", "Hardsigmoid", "Hardswish", "LayerNorm", "LeakyReLU", "LogSigmoid", "LogSoftmax",
    "MaxPool2d", "Mish", "ModuleDict", "ModuleList", "MultiHeadAttention", "RMSNorm", "ReLU",
    "ReLU6", "Residual", "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus", "Softsign",
    "SparseDense", "Tanh", "TransformerBlock",
]  # fmt: skip
