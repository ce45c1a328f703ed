"""Would training notice second moments of 4 bits? The curves of storage_curves.py with 16 values a block for them.

Run it as ``python benchmarks/four_bits.py 3 1`` for 3 exponent bits and 1 mantissa bit, after storage_curves.py has
kept the curves to compare with. Momentum keeps its 8 bits. The 16 values take the place of the 256 in the codec, one
byte each, so that only their precision is tried and no packing.
"""

import json
import statistics
import sys

from storage_curves import STORED, TASKS, kept_curve, place_of

from steepest import codecs
from steepest.study.running.memory import keep_freed_memory

SEEDS = (0, 1, 2)


def main() -> None:
    """Train with the grid that the arguments ask for, and print the last window's loss by seed."""
    keep_freed_memory()
    exponent_bits, mantissa_bits = map(int, sys.argv[1:])
    # Every kernel of this process has this grid, also one of int8: its curves are read and never made here.
    codecs.NONNEGATIVE = codecs.Grid(exponent_bits, mantissa_bits, sign=0)
    tried = f"v of {exponent_bits} + {mantissa_bits} bits"
    STORED[tried] = STORED["int8"]
    for task in TASKS:
        for stored in ("float32", "int8"):
            show(task, stored, [json.loads(place_of(task, stored, seed).read_text())[-1] for seed in SEEDS])
        show(task, tried, [kept_curve(task, tried, seed)[-1] for seed in SEEDS])


def show(task: str, stored: str, last: list[float]) -> None:
    """Print the mean of the last losses, and each of them."""
    print(f"{task}, {stored}: {statistics.fmean(last):.4f}", [round(loss, 4) for loss in last], flush=True)


if __name__ == "__main__":
    main()
