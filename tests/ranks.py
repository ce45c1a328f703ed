"""Processes that are ranks of a gloo group on this machine, and what they compare."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing

from steepest.executors.native import compiler

PRELOADED = ["pytest", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.distributed.tensor", "steepest"]


def on_ranks(count: int, run: Callable[..., None], folder: Path, *args: Any) -> None:
    """Call ``run(*args)`` in processes that are the ranks of a group, with one thread each.

    They are forked from a process that has imported what is slow to import and has done nothing else, no thread among
    it: one start of torch serves all ranks of a test process.
    """
    forkserver.set_forkserver_preload(PRELOADED)
    multiprocessing.start_processes(
        _rank, (count, run, str(folder), compiler.OPTIMIZATION, args), count, start_method="forkserver"
    )


def _rank(rank: int, count: int, run: Callable[..., None], folder: str, level: str, args: tuple[Any, ...]) -> None:
    compiler.OPTIMIZATION = level  # that of this test process
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/of_{count}", rank=rank, world_size=count)
    run(*args)
    dist.barrier()  # a rank that ends early closes the connections of others
    dist.destroy_process_group()


def whole(x: Any) -> Tensor:
    """The whole of a DTensor, and any other tensor as it is."""
    return (x.full_tensor() if hasattr(x, "full_tensor") else x).detach()
