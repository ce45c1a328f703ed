"""What a notebook shows of optimizers, parameter groups and found rates."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
import torch
from torch import nn

import steepest
from steepest.sweep import LrRange


class Cells(HTMLParser):
    """Rows of all tables, in order, and the tags that were left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def cells(shown: object) -> list[list[str]]:
    parsed = Cells(shown._repr_html_())  # type: ignore[attr-defined]
    assert not parsed.open
    return parsed.rows


def test_an_optimizer_shows_what_matters_and_folds_the_rest() -> None:
    groups = [{"params": [nn.Parameter(torch.ones(2, 3))]}, {"params": [nn.Parameter(torch.ones(3))], "lr": 0.1}]
    optimizer = steepest.AdamW(groups, ema_decay=0.99)
    head, first, second, *every = cells(optimizer)
    assert head == ["group", "tensors", "parameters", "options"]
    assert first[:3] == ["0", "1", "6"]
    torchs = "lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01, amsgrad=False"
    assert first[3] == f"{torchs}, ema_decay=0.99"
    assert second[3].startswith("lr=0.1, ")
    assert every[0] == ["option", "0", "1"]
    assert {row[0] for row in every[1:]} == set(optimizer.fields)
    assert "executor native" in optimizer._repr_html_()


def test_the_reason_for_a_slower_executor_is_shown() -> None:
    optimizer = steepest.AdamW([nn.Parameter(torch.ones(2))], fused=False)
    assert "foreach (native: fused=False)" in optimizer._repr_html_()


def test_options_that_are_tensors_are_shown() -> None:
    optimizer = steepest.AdamW([nn.Parameter(torch.ones(2))], lr=torch.tensor(0.5))
    assert "lr=tensor(0.5000)" in cells(optimizer)[1][3]


def test_groups_show_the_table_that_they_print() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    groups = steepest.groups.no_decay(model, weight_decay=0.1)
    rows = cells(groups)
    assert [" ".join(" ".join(row).split()) for row in rows] == [
        " ".join(line.split()) for line in str(groups).splitlines()[: len(rows)]
    ]


def test_names_are_escaped() -> None:
    groups = steepest.groups.ParamGroups([{"name": "<b>", "params": [("x&y", nn.Parameter(torch.ones(2)))]}], "a < b")
    assert cells(groups)[1] == ["<b>", "1", "2", "-", "x&y"]
    assert "<p>a &lt; b</p>" in groups._repr_html_()


@pytest.mark.parametrize("recommended", [0.01, None])
def test_found_rates(recommended: float | None) -> None:
    found = LrRange(
        "adam", (1e-5, 1.0), ((1.0, 0.5),), ((1.0, 0.5),), (1.0, 0.5), (0.1,), (0.5,), (None,), (0.01,), recommended
    )
    assert cells(found)[0] == ["repeat", "steepest fall", "lowest loss", "diverges"]
    assert "<li>not every repeat diverged up to 1</li>" in found._repr_html_()
