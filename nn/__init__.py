"""Neural networks on `tinygrad_np`: layers, losses, optimizers, data and a training loop.

>>> import numpy as np, nn
>>> model = nn.Sequential(nn.Dense(4, 8, activation="relu"), nn.Dense(8, 3))
>>> nn.SoftmaxCrossEntropy()(model(np.ones((2, 4))), [0, 2]).shape
()
"""

from nn import datasets, init, layers, losses, metrics, parallel
from nn.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, Run
from nn.checkpoint import load, save
from nn.data import Standardizer, batches, one_hot, train_test_split
from nn.history import History
from nn.init import seed
from nn.inspection import Inspection, Inspector, inspect
from nn.layers import *  # noqa: F403  # the names are listed there
from nn.losses import *  # noqa: F403
from nn.metrics import classification_report
from nn.module import Module
from nn.onnx_export import export_onnx
from nn.optim import (
    LBFGS,
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
    clip_norm,
    clip_value,
)  # fmt: skip
from nn.schedules import (
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    MultiStepDecay,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
)
from nn.summary import Summary
from nn.tensorboard import TensorBoardLog
from nn.torch_state import load_torch_state_dict, torch_state_dict
from nn.train import evaluate, fit, predict, predict_proba

__all__ = [
    "LBFGS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "CSVLog", "Callback",
    "Checkpoint", "CosineDecay", "EarlyStopping", "ExponentialDecay", "History", "Inspection",
    "Inspector", "LinearWarmup", "Lion", "Module", "MultiStepDecay", "NAdam", "OneCycle",
    "Optimizer", "RAdam", "RMSProp", "ReduceOnPlateau", "Run", "Schedule", "Standardizer",
    "StepDecay", "Summary", "TensorBoardLog", "batches", "classification_report", "clip_norm",
    "clip_value", "datasets", "evaluate", "export_onnx", "fit",
    "init", "inspect", "load",
    "load_torch_state_dict", "metrics", "one_hot",
    "parallel", "predict", "predict_proba", "save", "seed", "torch_state_dict", "train_test_split",
]  # fmt: skip
__all__ += layers.__all__
__all__ += losses.__all__
