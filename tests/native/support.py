"""Forked children with a time limit, compilers that are shell scripts, and a check of what really ran."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cases import buckets_of
from steepest import Optimizer

SHIPPED = "-O3"
"""The compiler's optimization as users have it; most tests take a cheaper one (conftest.py)."""

LIMIT = 60.0
"""Seconds after which a child is taken to hang."""


def in_child(work: Callable[[], Any], limit: float = LIMIT) -> str:
    """What ``work`` returns in a forked child, as text. Its failure, and a child that hangs, is a failure here."""
    (text,) = in_children([work], limit)
    return text


def in_children(
    works: Sequence[Callable[[], Any]], limit: float = LIMIT, start: Callable[[], Any] = lambda: None
) -> list[str]:
    """The same for several children at a time; ``start`` is called once all of them are there."""
    children = [_fork(work) for work in works]
    start()
    deadline = time.monotonic() + limit
    return [_result(child, reader, deadline) for child, reader in children]


def _fork(work: Callable[[], Any]) -> tuple[int, int]:
    reader, writer = os.pipe()
    child = forked(lambda: os.write(writer, _outcome(work)))
    os.close(writer)
    return child, reader


def forked(work: Callable[[], Any]) -> int:
    """The process id of a child that runs ``work`` and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on Python warns of threads, which torch has
        child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return child


def _outcome(work: Callable[[], Any]) -> bytes:
    """What ``work`` returns, or its failure; less than a pipe holds, so that writing it never waits."""
    try:
        text = f"+{work()}"
    except BaseException:
        text = f"-{traceback.format_exc()}"
    return text.encode(errors="replace")[:60_000]


def _result(child: int, reader: int, deadline: float) -> str:
    ended = bool(select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0])
    text = os.read(reader, 65_536).decode() if ended else ""
    os.close(reader)
    if not ended:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert ended, "the child hangs"
    assert text.startswith("+"), text or "the child died"
    return text[1:]


def python(program: str, *arguments: str, **environment: str) -> str:
    """What a new interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def script(path: Path, body: str) -> Path:
    """A shell script that can be called like a compiler; ``--version`` is answered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "a script at {path.name}"; exit 0; fi\n{body}\n')
    path.chmod(0o755)
    return path


def is_alive(process: int) -> bool:
    """Whether a process runs (one that has ended and waits to be collected does not)."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], limit: float = 20.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Values of size about 1, none near 0."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x + 0.1 * torch.sgn(x)).to(dtype)


def parameters(shapes: Sequence[tuple[int, ...]], dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    """Parameters with gradients."""
    params = [torch.nn.Parameter(drawn(shape, seed, dtype)) for seed, shape in enumerate(shapes)]
    for seed, p in enumerate(params):
        p.grad = drawn(tuple(p.shape), 100 + seed, dtype)
    return params


def stepped(optimizer: torch.optim.Optimizer, steps: int = 1) -> list[Tensor]:
    """The parameters after some steps."""
    for _ in range(steps):
        optimizer.step()
    return [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]


@contextlib.contextmanager
def ran_native(optimizer: Optimizer) -> Iterator[None]:
    """What runs inside runs on the native executor."""
    assert optimizer.executor == "native", repr(optimizer.executor)
    yield
    assert optimizer.executor == "native", repr(optimizer.executor)
    assert all(type(bucket).__name__ == "KernelBucket" for bucket in buckets_of(optimizer))
