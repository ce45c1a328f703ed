"""Freed memory stays in the process: a second tensor of the same size needs no new pages."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from steepest.study.running.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(16_000_000)
before = faults()
for _ in range(10):
    torch.ones(16_000_000)
print(faults() - before)
"""


def page_faults(how: str) -> int:
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, env=environment
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these options")
def test_freed_blocks_are_used_again() -> None:
    # By default each of the ten blocks is handed back and mapped anew. Kept, one is mapped again only where the heap
    # gave another place to it, which depends on the machine and happened for one block of ten.
    assert page_faults("keep") < page_faults("leave") / 2
