"""Would training notice second moments of 4 bits? The curves of storage_curves.py with 16 values a block for them.

Run it as ``python benchmarks/four_bits.py 3 1`` for 3 exponent bits and 1 mantissa bit. Momentum keeps its 8 bits. The
16 values take the place of the 256 in the codec, one byte each, so that only their precision is tried and no packing.
"""

import statistics
import sys

from storage_curves import STORED, TASKS, kept_curve

from steepest import codecs
from steepest.study.running.memory import keep_freed_memory

SEEDS = (0, 1, 2)


def main() -> None:
    """Train with the grid that the arguments ask for, and print the last window's loss by seed."""
    keep_freed_memory()
    exponent_bits, mantissa_bits = map(int, sys.argv[1:])
    # Kernels are made from this grid when the first step asks for one.
    codecs.NONNEGATIVE = codecs.Grid(exponent_bits, mantissa_bits, sign=0)
    tried = f"v of {exponent_bits} + {mantissa_bits} bits"
    STORED[tried] = STORED["int8"]
    for task in TASKS:
        for stored in ("float32", "int8", tried):
            last = [kept_curve(task, stored, seed)[-1] for seed in SEEDS]
            print(f"{task}, {stored}: {statistics.fmean(last):.4f}", [round(loss, 4) for loss in last], flush=True)


if __name__ == "__main__":
    main()
