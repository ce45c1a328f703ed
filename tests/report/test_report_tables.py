import csv
import io
import re
from html.parser import HTMLParser

import pytest

from steepest.study.report.findings.measures import Measure
from steepest.study.report.findings.summary import Spread
from steepest.study.report.tables.tables import (
    Column,
    MeanSd,
    Number,
    Table,
    Text,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
)

HOSTILE = "<script>alert('x')</script> a|b \\ 50% $x_1$ & #{}~^ `*_[]\n\"q\""
MEASURE = Measure("test_accuracy", "Test accuracy", 1, 3, "")
TABLE = Table(
    key="hostile",
    caption=HOSTILE,
    columns=(
        Column(HOSTILE),
        Column("here", "Group", numeric=True),
        Column("paper", "Group", numeric=True, muted=True),
    ),
    rows=(
        (Text(HOSTILE), MeanSd(Spread(((0, 0.5), (1, 0.7))), MEASURE), Number(0.25, 3)),
        (Text("one", detail=HOSTILE), MeanSd(Spread(((0, 0.5),)), MEASURE), Number(None, 3)),
        (Text("none"), MeanSd(Spread(()), MEASURE), Number(1234567.0, 0)),
    ),
)


def test_csv_keeps_text_and_full_precision() -> None:
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows[0] == [HOSTILE, "Group (here) mean", "Group (here) sd", "Group (here) seeds", "Group (paper)"]
    assert rows[1][0] == HOSTILE
    assert float(rows[1][1]) == pytest.approx(0.6)
    assert float(rows[1][2]) == pytest.approx(0.02**0.5)
    assert rows[2][1:] == ["0.5", "", "1", ""]
    assert rows[3][1:] == ["", "", "0", "1234567"]


def test_markdown_rows_have_one_cell_per_column() -> None:
    lines = to_markdown(TABLE).splitlines()
    assert len(lines) == 5
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == 4
    assert "<script" not in to_markdown(TABLE)
    assert "0.600 ± 0.141" in lines[2]


def test_latex_specials_are_escaped() -> None:
    text = to_latex(TABLE)
    body = text.replace("needs \\usepackage", "")
    assert r"50\% \$x\_1\$ \& \#\{\}\textasciitilde{}\textasciicircum{}" in body
    assert r"\textless{}script\textgreater{}" in body
    assert r"0.600 $\pm$ 0.141" in body
    rows = body.split("\\midrule\n")[1].split("    \\bottomrule")[0].splitlines()
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)&", row)) == 2 and row.endswith(r"\\") for row in rows)


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.starts: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.starts.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_holds_no_foreign_element_and_scoped_headers() -> None:
    parser = _Elements()
    parser.feed(str(to_html(TABLE)).replace("<wbr>", ""))  # where a long name may break
    tags = [tag for tag, _ in parser.starts]
    assert "script" not in tags
    assert parser.text.count(HOSTILE) == 4
    headers = [attributes for tag, attributes in parser.starts if tag == "th"]
    assert all(attributes.get("scope") in ("col", "row", "colgroup") for attributes in headers)
    assert len([attributes for attributes in headers if attributes["scope"] == "row"]) == 3


def test_html_cells_sort_by_the_exact_value() -> None:
    assert 'data-sort="0.6"' in to_html(TABLE)
    assert 'data-sort="1234567"' in to_html(TABLE)


def test_huge_numbers_stay_readable() -> None:
    assert Number(1234567.0).text == "1,234,567"
    assert Number(3.2e9, 3).text == "3.2e+09"
    assert Number(float("nan"), 3).text == "nan"
