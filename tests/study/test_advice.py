"""Advice: the kind of a network, candidates that a study can take, and evidence that the docs carry."""

import re
from pathlib import Path

import pytest
from torch import nn

from steepest.study import Workload, advice, workloads
from steepest.study.advice import KINDS, PRIORITIES, Evidence
from steepest.study.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]

NETWORKS: dict[str, nn.Module] = {
    "transformer": nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4)),
    "convolutional": nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2)),
    "recurrent": nn.ModuleList([nn.Embedding(5, 4), nn.LSTM(4, 4)]),
    "embeddings": nn.ModuleList([nn.Embedding(5, 4), nn.Linear(4, 1)]),
    "perceptron": nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)),
    "convex": nn.Sequential(nn.Flatten(), nn.Linear(2, 1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_a_network_is_read_off_its_modules(kind: str) -> None:
    assert advice.kind_of(NETWORKS[kind]) == kind


def test_attention_makes_a_transformer() -> None:
    assert advice.kind_of(nn.TransformerEncoderLayer(4, 2, 8)) == "transformer"
    assert advice.kind_of(nn.Sequential(nn.Conv2d(3, 4, 4), nn.MultiheadAttention(4, 2))) == "transformer"


@pytest.mark.parametrize("kind", KINDS)
def test_the_workload_of_a_kind_has_its_layers(kind: str) -> None:
    made = workloads.find(KINDS[kind].workload)("smoke")
    assert isinstance(made, Workload)
    model = made.model()
    fits = advice.kind_of(model) == kind
    assert fits or (kind == "embeddings" and any(isinstance(module, nn.Embedding) for module in model.modules()))


@pytest.mark.parametrize("priority", PRIORITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_priority_has_two_candidates_with_the_options_of_the_kind(kind: str, priority: str) -> None:
    found = advice.candidates(kind, priority)
    assert len({candidate.config.label for candidate in found}) == 2
    for candidate in found:
        assert ("max_norm" in candidate.recipe) == (kind == "recurrent")


def test_an_unknown_priority_gets_the_close_match() -> None:
    with pytest.raises(UsageError, match="did you mean 'memory'"):
        advice.candidates("convex", "memry")


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_are_two_with_ranges_to_search(kind: str) -> None:
    found = advice.candidates(kind)
    assert len(found) == 2
    assert all("lr" in candidate.config.origin.ranges for candidate in found)
    assert all(bool(candidate.evidence) == (KINDS[kind].evidence is not None) for candidate in found)


def test_an_unknown_kind_gets_the_close_match() -> None:
    with pytest.raises(UsageError, match="did you mean 'transformer'"):
        advice.candidates("transfomer")


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.evidence])
def test_evidence_is_what_the_stored_study_says(kind: str) -> None:
    evidence = KINDS[kind].evidence
    assert isinstance(evidence, Evidence)
    page = ROOT / evidence.page
    assert f"| {evidence.reference} |" in page.read_text(encoding="utf-8")
    table = (page.with_suffix("") / "verdicts.md").read_text(encoding="utf-8")
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in table.splitlines() if line.startswith("|")]
    place = rows[0].index("Difference")
    stored = {row[0]: (row[1], float(row[place].replace("−", "-"))) for row in rows[2:]}
    for name, (verdict, difference) in evidence.verdicts.items():
        assert stored[name] == (verdict, pytest.approx(difference, rel=0.01, abs=5e-5))
