"""What many trials cost: files and bytes that are read, not seconds."""

import json
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steepest.study import source_code
from steepest.study.records import records
from steepest.study.running import engine, progress, remote, store
from steepest.study.running.progress import Progress
from steepest.study.running.remote import Outcome, Remote
from steepest.study.running.store import StudyFolder, Tail, TrialRecords
from steepest.study.running.workers import TrialUpdate
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event, start_of

from .support import PlanMaker, Silent, evaluations


class Counted:
    """A file that counts the bytes that are read from it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.read = 0

    def open(self, mode: str) -> Any:
        return self._opened(mode)

    @contextmanager
    def _opened(self, mode: str) -> Iterator[Any]:
        with self._path.open(mode) as file:

            def read() -> bytes:
                content: bytes = file.read()
                self.read += len(content)
                return content

            yield SimpleNamespace(read=read, seek=file.seek, fileno=file.fileno)


def line(number: int) -> bytes:
    return records.encode({"kind": "step", "step": number})


def test_every_byte_of_a_growing_record_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    counted = Counted(path)
    tail = Tail(counted)  # type: ignore[arg-type]
    assert tail.news() == []  # there is none yet
    for number in range(100):
        with path.open("ab") as file:
            file.write(line(number))
        assert [record["step"] for record in tail.news()] == [number]
        assert tail.news() == []
    assert counted.read == path.stat().st_size


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    path, whole = tmp_path / "one.jsonl", line(1) + line(2)
    tail = Tail(path)
    path.write_bytes(whole[:-5])
    assert [record["step"] for record in tail.news()] == [1]
    path.write_bytes(whole)
    assert [record["step"] for record in tail.news()] == [2]


@pytest.mark.parametrize("again", [b"", line(1), line(1) + line(7)[:-4]])
def test_a_record_that_was_cut_is_told_from_its_new_end_on(tmp_path: Path, again: bytes) -> None:
    path = tmp_path / "one.jsonl"
    path.write_bytes(line(1) + line(2) + line(3))
    tail = Tail(path)
    assert len(tail.news()) == 3
    path.write_bytes(again)
    assert tail.news() == []
    path.write_bytes(again[: again.rfind(b"\n") + 1] + line(7))
    assert [record["step"] for record in tail.news()] == [7]


def test_lines_that_another_attempt_has_moved_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_bytes(line(1) + line(2))
    tail = Tail(path)
    tail.news()
    path.write_bytes(line(100_000) + line(100_001) + line(100_002))  # longer lines: the place told is inside of one
    assert tail.news() == []
    with path.open("ab") as file:
        file.write(line(3))
    assert [record["step"] for record in tail.news()] == [3]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the whole records that are read, by file."""
    counts: Counter[str] = Counter()
    whole = store.read_records

    def read(path: Path) -> TrialRecords:
        counts[path.stem] += path.parent.name == "trials"
        return whole(path)

    monkeypatch.setattr(store, "read_records", read)
    return counts


def test_a_driver_reads_every_record_equally_often_however_many_there_are(
    plan: PlanMaker, tmp_path: Path, reads: Counter[str]
) -> None:
    most = []
    for seeds in (1, 4):
        reads.clear()
        engine.run(plan("sgd", "adam", seeds=seeds, timing_rounds=0), StudyFolder(tmp_path / str(seeds)), Silent())
        most.append(max(reads.values()))
    assert most[0] == most[1] <= 5


class Elsewhere:
    """A cluster on which nothing runs but when the driver sleeps: then every job writes one line."""

    name = "elsewhere"

    def __init__(self, folder: StudyFolder, steps: int) -> None:
        self._folder, self._steps = folder, steps
        self._jobs: list[tuple[Any, Iterator[Event], SimpleNamespace]] = []

    def start(self, assignments: Any) -> list[Any]:
        started = []
        for assignment in assignments:
            spec = TrialSpec.read(assignment.document)
            job = SimpleNamespace(end=None, cancel=lambda: None)
            job.outcome = lambda job=job: job.end
            self._jobs.append((self._folder.log(spec.id), self._events(spec), job))
            started.append(job)
        return started

    def sleep(self, seconds: float) -> None:
        for log, events, job in self._jobs:
            if job.end is None:
                log.write(event := next(events))
                if event.record["kind"] == "end":
                    log.__exit__()
                    job.end = Outcome()

    def _events(self, spec: TrialSpec) -> Iterator[Event]:
        yield start_of(spec)
        for epoch in range(1, self._steps + 1):
            place = {"kind": "epoch", "epoch": epoch, "step": epoch}
            yield Event({**place, "train_loss": 1.0}, {**place, "train_seconds": float(epoch)})
        yield Event(
            {"kind": "end", "epoch": epoch, "step": epoch, "status": "finished"}, {"kind": "end", "epoch": epoch}
        )


def test_polling_reads_every_line_of_a_cluster_once(
    plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: Counter[str]
) -> None:
    folder, parsed = StudyFolder(tmp_path), Counter[str]()
    cluster = Elsewhere(folder, steps=20)
    monkeypatch.setattr(
        remote,
        "time",
        SimpleNamespace(sleep=cluster.sleep, monotonic=lambda: 0.0, thread_time=lambda: 0.0),
    )
    monkeypatch.setattr(store, "_parsed", noting(store._parsed, parsed))
    told: list[TrialUpdate] = []
    with folder.writing():
        workers = Remote(folder, cluster)
        specs = evaluations(plan("sgd", "adam"))
        for spec in specs:
            workers.submit(spec)
        workers.collect(told.append)
    assert len(told) == len(specs) * (1 + 22)
    seconds = [
        update.event.timing["train_seconds"]
        for update in told
        if update.event and kind(update) == "epoch" and update.event.timing
    ]
    assert seconds == [float(epoch) for epoch in range(1, 21) for _ in specs]
    assert parsed["lines"] == len(specs) * (22 + 21)
    assert not reads  # no record is read whole


def kind(update: TrialUpdate) -> str:
    return "" if update.event is None else str(update.event.record["kind"])


def noting(parse: Callable[[list[bytes]], list[Any]], counts: Counter[str]) -> Callable[[list[bytes]], list[Any]]:
    def noted(lines: list[bytes]) -> list[Any]:
        counts["lines"] += len(lines)
        return parse(lines)

    return noted


def test_a_driver_rests_in_proportion_to_its_work(
    plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow a look at all jobs is, it takes a small share of a core."""
    folder, clock, slept = StudyFolder(tmp_path), iter(range(0, 10_000, 2)), []
    cluster = Elsewhere(folder, steps=2)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        cluster.sleep(seconds)

    monkeypatch.setattr(
        remote, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: 0.0, thread_time=lambda: float(next(clock)))
    )
    with folder.writing():
        workers = Remote(folder, cluster)
        workers.submit(evaluations(plan("sgd"))[0])
        workers.collect(lambda update: None)
    assert set(slept) == {2 * remote.REST}
    assert 1 / (1 + remote.REST) < 0.05


def test_the_time_left_looks_at_running_trials_only(plan: PlanMaker, tmp_path: Path) -> None:
    made = plan("sgd", "adam", seeds=4)
    progress_of = Progress(made, StudyFolder(tmp_path))
    specs = evaluations(made)
    progress_of.stage_started(specs)
    progress_of.trial_started(specs[0])
    progress_of.trial_event(specs[0], Event({"kind": "end", "status": "finished", "epoch": 2, "step": 4}))
    progress_of.trial_started(specs[1])
    expected = progress_of.seconds_left()
    progress_of.rows = Unreadable()
    assert expected is not None
    assert progress_of.seconds_left() == pytest.approx(expected, abs=5.0)


class Unreadable(dict[str, progress.Row]):
    """Rows that nobody may go through."""

    def values(self) -> Any:
        raise AssertionError("all rows were read")

    items = __iter__ = values


def test_the_code_of_a_rule_is_read_once(plan: PlanMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()
    whole = source_code.inspect.getsource

    def getsource(function: Any) -> str:
        read[function.__qualname__] += 1
        return whole(function)

    source_code.function_digest.cache_clear()
    monkeypatch.setattr(source_code.inspect, "getsource", getsource)
    assert len({spec.id for spec in evaluations(plan("sgd", "sgd[lr=0.5]", seeds=5))}) == 10
    assert set(read.values()) == {1}


def test_a_stored_configuration_is_a_copy(plan: PlanMaker) -> None:
    config = evaluations(plan("sgd"))[0].config
    before = json.dumps(config.document())
    config.document()["label"] = "another"
    assert json.dumps(config.document()) == before


def test_a_driver_keeps_few_records_in_memory(plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All records of a large study together do not fit."""
    kept: list[weakref.ref[TrialRecords]] = []
    most = 0
    whole = store.read_records

    def read(path: Path) -> TrialRecords:
        nonlocal most
        kept[:] = [one for one in kept if one() is not None]
        most = max(most, len(kept))
        found = whole(path)
        kept.append(weakref.ref(found))
        return found

    monkeypatch.setattr(store, "read_records", read)
    wanted = {"trials_wanted": 4, "tuning_seeds_wanted": 2}
    engine.run(plan("sgd", "adam", seeds=3, **wanted), StudyFolder(tmp_path), Silent())
    assert most <= 3
