"""A kernel of the Triton executor: its source, and what a launch of it needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...views import compute_dtype
from ..plan import Host
from ..slots import Slot
from .count import Counting
from .layouts import Layout

ARGUMENTS = ("table", "owners", "constants", "doubles", "sums", "reduced", "room")
"""Arguments of every function that is launched: the tables of parameters and programs, the constants of elements, those
of numbers in double, and room for each tile's sums, each parameter's numbers, and those of matrices, rows and columns.
"""


@dataclass(frozen=True)
class Launch:
    """One launch of a step.

    Attributes:
        function: the function of the kernel's source.
        grid: what there is a program for: each of the ``tiles``, or what numbers belong to; see `layouts`.
    """

    function: str
    grid: str

    @property
    def is_tiled(self) -> bool:
        """True if the launch reads or writes elements."""
        return self.grid == "tiles"


@dataclass(frozen=True)
class Kernel:
    """Triton for one program and one choice of dtypes.

    Attributes:
        source: Python with the functions of the launches, which Triton compiles.
        launches: the launches of a step, in order.
        slots: the tensors, in the kernel's order: p, g, then the program's stored state.
        host: the host part, which computes the kernel's constants.
        layout: how the launches cut parameters into programs.
        warps: the number of warps of a program.
        reductions, sums: the doubles that the launches keep for each parameter, and for each tile.
        is_counted: whether the launches read the step count after the constants in double.
        counting: the launch before these, which counts steps on the device; None where the host counts.
    """

    source: str
    launches: tuple[Launch, ...]
    slots: tuple[Slot, ...]
    host: Host
    layout: Layout
    warps: int
    reductions: int
    sums: int
    is_counted: bool
    counting: Counting | None = None

    @property
    def real(self) -> torch.dtype:
        """The dtype to compute in, and of the constants of elements."""
        return compute_dtype(self.slots[0].dtype)

    @property
    def reads_doubles(self) -> bool:
        """True if launches read constants in double."""
        return self.is_counted or not all(launch.is_tiled for launch in self.launches)
