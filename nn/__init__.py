"""Neural networks on `tinygrad_np`: layers, losses, optimizers, data and a training loop.

>>> import numpy as np, nn
>>> model = nn.Sequential(nn.Dense(4, 8, activation="relu"), nn.Dense(8, 3))
>>> nn.SoftmaxCrossEntropy()(model(np.ones((2, 4))), [0, 2]).shape
()
"""

from nn import datasets, init, metrics
from nn.checkpoint import load, save
from nn.data import Standardizer, batches, one_hot, train_test_split
from nn.history import History
from nn.init import seed
from nn.layers import Dense, Flatten, LogSoftmax, ReLU, Sequential, Sigmoid, Softmax, Tanh
from nn.losses import MSE, BinaryCrossEntropy, HalfSquaredError, SoftmaxCrossEntropy
from nn.metrics import classification_report
from nn.module import Module
from nn.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    Optimizer,
    RAdam,
    RMSProp,
)  # fmt: skip
from nn.summary import Summary
from nn.train import evaluate, fit, predict

__all__ = [
    "MSE", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "BinaryCrossEntropy", "Dense",
    "Flatten", "HalfSquaredError", "History", "Lion", "LogSoftmax", "Module", "NAdam", "Optimizer",
    "RAdam", "RMSProp", "ReLU", "Sequential", "Sigmoid", "Softmax", "SoftmaxCrossEntropy",
    "Standardizer", "Summary", "Tanh", "batches", "classification_report", "datasets", "evaluate",
    "fit", "init", "load", "metrics", "one_hot", "predict", "save", "seed", "train_test_split",
]  # fmt: skip
