"""Process-wide settings of torch and NumPy. A trial's changes to them must not reach the next trial."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

TINY: Final = 1e-310
"""A denormal number in float64."""


@dataclass(frozen=True)
class Setting:
    """One setting: its name in messages, its reader and its writer."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _set_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # for the CPU no mode need be active


def _flushes_denormals() -> bool:
    return TINY * 2.0 == 0.0


def _set_numpy_errors(value: dict[str, Any]) -> None:
    np.seterr(**value)


SETTINGS: Final = (
    Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("torch's default device", torch.get_default_device, _set_device),
    Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("torch's deterministic algorithms (on, warnings only)", _deterministic, _set_deterministic),
    Setting("torch's float32 matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    Setting(
        "torch's autocast", lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)
    ),
    Setting(
        "torch's autocast dtype",
        lambda: torch.get_autocast_dtype("cpu"),
        lambda dtype: torch.set_autocast_dtype("cpu", dtype),
    ),
    Setting("torch's anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    Setting("torch's flushing of denormal numbers", _flushes_denormals, torch.set_flush_denormal),
    Setting("NumPy's handling of floating-point errors", np.geterr, _set_numpy_errors),
)


@contextmanager
def kept() -> Iterator[Callable[[], list[str]]]:
    """Restore every setting at the end of the block. Yield a function that names the settings that differ by then."""
    before = values()

    def changes() -> list[str]:
        changed = [entry for entry in zip(SETTINGS, before, values(), strict=True) if entry[1] != entry[2]]
        return [f"{setting.name} from {old} to {new}" for setting, old, new in changed]

    try:
        yield changes
    finally:
        _write(before)


@contextmanager
def as_they_were(before: Sequence[Any]) -> Iterator[None]:
    """Restore earlier values of the settings inside the block."""
    with kept():
        _write(before)
        yield


def values() -> list[Any]:
    """Return the value of every setting."""
    return [setting.read() for setting in SETTINGS]


def _write(values: Sequence[Any]) -> None:
    for setting, value in zip(SETTINGS, values, strict=True):
        if setting.read() != value:
            setting.write(value)
