"""False verdicts of whole studies: nine copies of one optimizer that differ by noise on the initial weights."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn

from steepest.study.declaration import LOSS
from steepest.study.optimizers import sources
from steepest.study.report.findings.findings import findings
from steepest.study.report.stored.reader import read_study
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder

from .small import fitted, planned
from .support import Silent

COPIES = 9
SEEDS = 10
STUDIES = 60


def copy(number: int, lr: float = 0.05) -> Callable[[Iterable[Tensor]], torch.optim.Optimizer]:
    """Return an optimizer that first moves the weights, by noise that depends on the seed and its number."""

    def make(params: Iterable[Tensor]) -> torch.optim.Optimizer:
        moved = list(params)
        source = torch.Generator().manual_seed(COPIES * int(torch.randint(2**40, ())) + number)
        with torch.no_grad():
            for p in moved:
                p.add_(0.5 * torch.randn(p.shape, generator=source))
        return torch.optim.SGD(moved, lr=lr)

    return make


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(1) - targets).square().mean()


def verdicts(folder: Path, number: int, rate: float = 0.05, last: float = 0.05, horizon: int = 1) -> list[str]:
    """Run a study of the copies on seeds of its own and return its verdicts. The last copy may have another rate."""
    makers = {f"copy{each}": copy(each, last if each == COPIES - 1 else rate) for each in range(COPIES)}
    names = [sources.give(label, maker) for label, maker in makers.items()]
    workload = fitted(
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)), squared, metric=LOSS, horizon=horizon
    )
    plan = planned(workload, *names, seeds_wanted=SEEDS, seed_offset=SEEDS * number)
    study = StudyFolder(folder / str(number))
    assert engine.run(plan, study, Silent()).ended == {"finished": COPIES * SEEDS}
    return [comparison.verdict for comparison in findings(read_study(study.path)).verdicts.comparisons]


@pytest.mark.slow
def test_studies_of_equals_give_a_false_verdict_in_a_twentieth_at_most(tmp_path: Path) -> None:
    found = [verdicts(tmp_path, number) for number in range(STUDIES)]
    assert all(len(each) == COPIES - 1 for each in found)
    false = sum(not {"better", "worse"}.isdisjoint(each) for each in found)
    assert false <= binom.ppf(0.995, STUDIES, 0.05)  # at most 5 %: Holm's correction and a discrete test err less


@pytest.mark.slow
def test_a_copy_that_learns_less_is_found(tmp_path: Path) -> None:
    *others, last = verdicts(tmp_path, 0, rate=0.2, last=1e-4, horizon=5)
    assert last == "worse"
    assert "worse" not in others
