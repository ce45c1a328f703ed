"""`--match`: what a study may compare at, and how a plan holds it."""

from pathlib import Path
from typing import Any

import pytest

from steepest.study.data import adapt
from steepest.study.errors import UsageError
from steepest.study.planning.merge import merge
from steepest.study.planning.plan import make_plan
from steepest.study.planning.replication import replicating
from steepest.study.planning.request import Request
from steepest.study.records.format import FormatError, Protocol, StudyDocument, read
from steepest.study.records.records import plain
from steepest.study.workloads import find


def _request(**wanted: Any) -> Request:
    return Request(find("mini-batch"), "smoke", ("sgd", "adam"), **{"trials_wanted": 0, **wanted})


def _document(**wanted: Any) -> StudyDocument:
    request = _request(**wanted)
    return make_plan(request, adapt.load(find("mini-batch").workload("smoke").data, None), "").document


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"match": "second"}, "unknown match 'second'; did you mean 'seconds'.*Choose from steps, seconds, eval"),
        ({"match": "seconds", "timing_rounds": 0}, "--match seconds needs the timing pass; give --timing-rounds 3"),
        ({"match": "evaluations", "all_train": True}, "compares on the validation set, and --all-train leaves none"),
        ({"match": "seconds", "seeds_wanted": 6, "more_seeds_wanted": 9}, "give one of the two"),
    ],
)
def test_a_study_that_cannot_compare_so_is_refused(wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        _request(**wanted)


def test_evaluations_need_no_timing_pass() -> None:
    assert _request(match="evaluations", timing_rounds=0).match == "evaluations"
    assert _request(match="steps", all_train=True, timing_rounds=0).match == "steps"


def test_the_default_folder_tells_the_kind() -> None:
    assert _request(match="seconds").folder(fallback=False).name == "mini-batch-smoke-equal-seconds"
    assert _request().folder(fallback=False).name == "mini-batch-smoke"


def test_the_plan_is_locked_and_a_plan_of_equal_steps_stays_as_it_was(tmp_path: Path) -> None:
    steps, seconds = _document(), _document(match="seconds")
    assert "match" not in plain(steps.protocol)
    assert plain(seconds.protocol)["match"] == "seconds"
    assert read(Protocol, plain(seconds.protocol)).match == "seconds"
    assert read(Protocol, plain(steps.protocol)).match == "steps"
    assert merge(seconds, seconds, (), tmp_path).protocol.match == "seconds"
    with pytest.raises(UsageError, match=r"protocol\.match is 'steps' and 'seconds'"):
        merge(steps, seconds, (), tmp_path)


def test_a_damaged_kind_is_told() -> None:
    damaged = plain(_document(match="seconds").protocol) | {"match": "hours"}
    with pytest.raises(FormatError, match="match is 'hours', not 'steps' or 'seconds' or 'evaluations'"):
        read(Protocol, damaged)


def test_a_replication_compares_at_the_same_cost() -> None:
    assert replicating(_document(match="seconds"), Path("there")).match == "seconds"
