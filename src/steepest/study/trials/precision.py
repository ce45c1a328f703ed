"""The number formats that a trial may compute in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch

from steepest.study.errors import UsageError
from steepest.study.suggest import choices

PRECISIONS: Final = {
    "fp32": "float32 throughout",
    "bf16": "bfloat16 autocast for the forward pass; weights, loss and optimizer in float32",
    "fp16": "float16 autocast for the forward pass, and a loss that torch's GradScaler scales",
}
DTYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check(precision: str) -> str:
    """Return the name of a precision. For an unknown name, raise an error with the closest match."""
    if precision not in PRECISIONS:
        raise UsageError(choices("precision", precision, PRECISIONS))
    return precision


def autocast(precision: str, device: str) -> AbstractContextManager[object]:
    """Return the context in which a model runs forward on a kind of device."""
    return torch.autocast(device, dtype=DTYPES[precision]) if precision in DTYPES else nullcontext()


def scaler(precision: str, device: str) -> torch.amp.GradScaler:
    """Return the scaler of the loss. It changes nothing but in fp16."""
    return torch.amp.GradScaler(device, enabled=precision == "fp16")
