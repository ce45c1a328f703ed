"""Processes that are ranks of a gloo group on this machine, and what they compare."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def begin(rank: int, ranks: int, file: str) -> None:
    """Join a group of ranks, with one thread each."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=ranks)


def end() -> None:
    """Leave the group together: a rank that ends early closes the connections of others."""
    dist.barrier()
    dist.destroy_process_group()


def whole(x: Any) -> Tensor:
    """The whole of a DTensor, and any other tensor as it is."""
    return (x.full_tensor() if hasattr(x, "full_tensor") else x).detach()
