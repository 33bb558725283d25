"""Derivatives held against numbers: `gradcheck`; backprop by hand: `check_backprop`, `check_gradients`."""

from .asserting import assert_backprop
from .backprop import check_gradients
from .byhand import check_backprop
from .findings import BackpropReport, Diagnosis, Finding
from .gradcheck import gradcheck
from .report import ArgumentCheck, GradientReport

__all__ = [
    "ArgumentCheck",
    "BackpropReport",
    "Diagnosis",
    "Finding",
    "GradientReport",
    "assert_backprop",
    "check_backprop",
    "check_gradients",
    "gradcheck",
]
