"""Where our optimizers and those of other libraries go, measured: the tables of docs/variants.md.

Run it as ``python benchmarks/parity_table.py`` in an environment with the extra "parity": it writes the tables into the
page, between its two marks. What is compared is in tests/variants, where each comparison is a test as well.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from variants.measure import measured  # noqa: E402 - found in tests/
from variants.table import BEGIN, END, tables  # noqa: E402

PAGE = ROOT / "docs" / "variants.md"


def main() -> None:
    """Measure, and write the tables between the marks."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(measured()['paths'])}\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
