"""The number formats that a trial may compute in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch

from steepest.study.errors import UsageError
from steepest.study.suggest import choices

PRECISIONS: Final = {
    "fp32": "float32 throughout",
    "bf16": "bfloat16 autocast for the forward pass; weights, loss and optimizer in float32",
}


def check(precision: str) -> str:
    """Return the name of a precision. For an unknown name, raise an error with the closest match."""
    if precision not in PRECISIONS:
        raise UsageError(choices("precision", precision, PRECISIONS))
    return precision


def autocast(precision: str) -> AbstractContextManager[object]:
    """Return the context in which the model runs forward."""
    return nullcontext() if precision == "fp32" else torch.autocast("cpu", dtype=torch.bfloat16)
