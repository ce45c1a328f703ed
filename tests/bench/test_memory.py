"""The memory of a step is that step's."""

from __future__ import annotations

import platform
import sys

import pytest
import torch

from steepest.bench import memory

MIB = 2**20
NEEDS_LINUX = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="measured through Linux's /proc and glibc"
)


@NEEDS_LINUX
def test_a_temporary_is_seen_although_it_is_gone_at_the_end() -> None:
    held = torch.ones(4 * MIB)

    def step() -> None:
        held.add_(held * 2)  # a temporary of 16 MiB

    step()
    assert memory.peak_extra_bytes(step, "cpu") == pytest.approx(16 * MIB, abs=2 * MIB)


@NEEDS_LINUX
def test_work_in_place_needs_nothing() -> None:
    held = torch.ones(4 * MIB)
    held.add_(1)
    extra = memory.peak_extra_bytes(lambda: held.add_(1), "cpu")
    assert extra is not None
    assert extra < 2 * MIB


def test_where_the_system_says_nothing_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(memory, "_give_freed_memory_back", lambda: False)
    assert memory.peak_extra_bytes(lambda: None, "cpu") is None
    monkeypatch.setattr(memory, "_give_freed_memory_back", lambda: True)
    monkeypatch.setattr(memory, "RESET", memory.Path("/nonexistent/clear_refs"))
    assert memory.peak_extra_bytes(lambda: None, "cpu") is None


@NEEDS_LINUX
def test_available_memory() -> None:
    free = memory.available_bytes("cpu")
    assert free is not None
    assert MIB < free < 2**50
