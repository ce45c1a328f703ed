"""A sequential study adds seeds while something is open, for what is open, up to its planned maximum."""

from pathlib import Path
from typing import Any

import pytest

from steepest.study import workloads
from steepest.study.data import adapt
from steepest.study.declaration import LOSS
from steepest.study.errors import UsageError
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.replication import check_same, replicating
from steepest.study.planning.request import FIRST_TUNING_SEED, Request
from steepest.study.records.records import encode_document
from steepest.study.report.findings.findings import findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.text.answer import answer, caution
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder
from steepest.study.statistics.verdicts import Verdict

from .small import planned, small
from .support import PlanMaker, Silent, stored

WORSE, EQUAL = "SGD[lr=1e-06]", "torch.optim.SGD[lr=0.3]"


def sequential(*optimizers: str, **wanted: Any) -> Plan:
    """Plan looks at 9 and 18 seeds of a clearly worse optimizer, and of one that equals the reference exactly."""
    names = optimizers or ("sgd[lr=0.3]", "sgd[lr=1e-6]", "torch.optim:SGD[lr=0.3]")
    return planned(small(metric=LOSS), *names, **{"seeds_wanted": 9, "more_seeds_wanted": 18, **wanted})


@pytest.fixture
def done(tmp_path: Path, silent: Silent) -> StudyFolder:
    folder = StudyFolder(tmp_path / "study")
    engine.run(sequential(), folder, silent)
    return folder


def seeds_of(folder: StudyFolder) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for trial in stored(folder)["trials"]:
        found.setdefault(trial["optimizer"], []).append(trial["seed"])
    return found


def test_what_is_decided_stops_and_what_is_open_goes_on(done: StudyFolder) -> None:
    both = list(range(18))
    assert seeds_of(done) == {"SGD[lr=0.3]": both, WORSE: list(range(9)), EQUAL: both}
    document = stored(done)
    assert document["config"]["seeds"] == both
    assert (document["protocol"]["looks"], document["protocol"]["spending"]) == ([9, 18], 2.0)
    assert "seed_counts" not in document
    found = findings(read_study(done.path))
    assert [(one.label, one.n, one.verdict) for one in found.verdicts.comparisons] == [
        (WORSE, 9, Verdict.WORSE),
        (EQUAL, 18, Verdict.UNDECIDED),
    ]
    assert "over 9 to 18 paired seeds" in answer(found.study, found.verdicts, found.summaries)
    said = " ".join(caution(found.study, found.verdicts, found.searches))
    assert f"The planned maximum of 18 seeds is reached, and {EQUAL} is open" in said
    assert "larger --seeds" not in said


def test_the_same_command_has_nothing_to_add(done: StudyFolder, silent: Silent) -> None:
    before = done.document_path.read_bytes()
    assert engine.run(sequential(), done, silent).skipped == 45
    assert done.document_path.read_bytes() == before


def test_an_interrupted_block_goes_on_to_the_same_study(done: StudyFolder, tmp_path: Path, silent: Silent) -> None:
    """A block in which trials are missing is no look, and what is open was settled by the look before it."""

    class Interrupting(Silent):
        def trial_started(self, trial: Any) -> None:
            if trial.seed == 12:
                raise KeyboardInterrupt
            super().trial_started(trial)

    folder = StudyFolder(tmp_path / "another")
    assert engine.run(sequential(), folder, Interrupting()).interrupted
    halfway = findings(read_study(folder.path)).verdicts.comparisons
    assert [(one.label, one.n) for one in halfway] == [(WORSE, 9), (EQUAL, 9)]
    engine.run(sequential(), folder, silent)
    assert seeds_of(folder) == seeds_of(done)
    ends = [findings(read_study(one.path)).verdicts.comparisons for one in (folder, done)]
    assert ends[0] == ends[1]


def test_all_that_is_decided_at_the_first_look_ends_the_study(tmp_path: Path, silent: Silent) -> None:
    folder = StudyFolder(tmp_path / "study")
    engine.run(sequential("sgd[lr=0.3]", "sgd[lr=1e-6]"), folder, silent)
    assert stored(folder)["config"]["seeds"] == list(range(9))


def test_an_optimizer_that_is_added_later_catches_up(tmp_path: Path, silent: Silent) -> None:
    folder = StudyFolder(tmp_path / "study")
    engine.run(sequential("sgd[lr=0.3]", "sgd[lr=1e-6]"), folder, silent)
    engine.run(sequential("torch.optim:SGD[lr=0.3]"), folder, silent)
    assert seeds_of(folder)[EQUAL] == list(range(9))  # the reference would have to run on more seeds, and is not named
    engine.run(sequential("sgd[lr=0.3]", "torch.optim:SGD[lr=0.3]"), folder, silent)
    assert seeds_of(folder)[EQUAL] == list(range(18))


def test_the_plan_of_looks_is_locked(done: StudyFolder, silent: Silent) -> None:
    for other in ({"more_seeds_wanted": 27}, {"seeds_wanted": 6}, {"more_seeds_wanted": None}):
        with pytest.raises(UsageError, match=r"holds another study.*protocol\.looks"):
            engine.run(sequential(**other), done, silent)


def test_looks_begin_at_the_offset(tmp_path: Path, silent: Silent) -> None:
    folder = StudyFolder(tmp_path / "study")
    engine.run(sequential(seed_offset=100), folder, silent)
    assert seeds_of(folder)[EQUAL] == list(range(100, 118))
    assert seeds_of(folder)[WORSE] == list(range(100, 109))


def test_a_replication_has_the_same_looks(plan: PlanMaker, tmp_path: Path, silent: Silent) -> None:
    folder = StudyFolder(tmp_path / "study")
    engine.run(plan("sgd", "adam", workload="single-example", seeds=6, more_seeds_wanted=9), folder, silent)
    request = replicating(folder.document(), folder.path)
    fresh = max(folder.document().config.seeds) + 1
    assert (request.looks, request.seeds[0], request.all_seeds[-1]) == ((6, 9), fresh, fresh + 8)
    check_same(folder.document(), make_plan(request, adapt.load(request.workload.data), "again").document)


@pytest.mark.parametrize("most", [0, 9, 201])
def test_a_maximum_that_makes_no_sense_is_refused(most: int) -> None:
    with pytest.raises(UsageError, match=rf"--more-seeds {most} .* 9 at first .* from 10 to 200"):
        Request(workloads.find("digits"), "smoke", ("sgd",), seeds_wanted=9, more_seeds_wanted=most)


def test_no_later_seed_is_a_tuning_seed() -> None:
    wanted = {"trials_wanted": 2, "seeds_wanted": 9, "seed_offset": FIRST_TUNING_SEED - 9}
    Request(workloads.find("digits"), "smoke", ("sgd",), **wanted)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="overlap"):
        Request(workloads.find("digits"), "smoke", ("sgd",), **wanted, more_seeds_wanted=10)  # type: ignore[arg-type]


def test_seeds_that_are_added_by_hand_are_remembered_and_told(plan: PlanMaker, tmp_path: Path, silent: Silent) -> None:
    folder = StudyFolder(tmp_path / "study")
    names = ("sgd[lr=0.3]", "sgd[lr=1e-6]")
    for seeds, counts in ((2, None), (2, None), (4, [2, 4]), (3, [2, 4]), (6, [2, 4, 6])):
        engine.run(plan(*names, workload="mini-batch", seeds=seeds), folder, silent)
        assert stored(folder).get("seed_counts") == counts
    found = findings(read_study(folder.path))
    said = caution(found.study, found.verdicts, found.searches)
    assert any("added by hand after results could be seen (2, then 4, then 6)" in one for one in said)


def test_seeds_that_are_added_before_anything_was_evaluated_are_none_of_these(
    plan: PlanMaker, tmp_path: Path, silent: Silent
) -> None:
    folder = StudyFolder(tmp_path / "study")
    folder.path.mkdir()
    folder.write_document(plan("sgd", workload="mini-batch", seeds=2).document)
    engine.run(plan("sgd", workload="mini-batch", seeds=4), folder, silent)
    assert "seed_counts" not in stored(folder)


def test_a_study_without_looks_is_stored_as_before(plan: PlanMaker) -> None:
    content = encode_document(plan("sgd").document)
    assert not any(name in content for name in (b'"looks"', b'"spending"', b'"seed_counts"'))
