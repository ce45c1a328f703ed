"""Trials on other nodes: equal bytes on every engine, lost nodes, leases. Most of it with a cluster of this process."""

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from steepest.study import workloads
from steepest.study.errors import StoreError, StudyError, UsageError
from steepest.study.planning.plan import Plan
from steepest.study.planning.request import Request
from steepest.study.records.lease import Lease, Writer
from steepest.study.running import engine, remote, store
from steepest.study.running.ray_cluster import RayCluster
from steepest.study.running.remote import Assignment, Job, Outcome, Remote, carry_out
from steepest.study.running.slurm_cluster import SlurmCluster
from steepest.study.running.store import StudyFolder
from steepest.study.running.worker_limits import WorkerLimits

from .small import planned_experiment
from .support import Silent, evaluations, updates_of

EXPERIMENTS = Path(__file__).with_name("experiments.py")


def planned(name: str = "by_steps", *optimizers: str, **wanted: Any) -> Plan:
    return planned_experiment(f"{EXPERIMENTS}:{name}", *(optimizers or ("sgd",)), **{"seeds_wanted": 2} | wanted)


def request() -> Request:
    return Request(workloads.find(f"{EXPERIMENTS}:by_steps"), "smoke", ("sgd",), trials_wanted=0)


def records_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((path / "trials").iterdir())}


@dataclass
class Done:
    """A job that has ended."""

    end: Outcome
    cancelled: bool = False

    def outcome(self) -> Outcome:
        return self.end

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Here:
    """A cluster of this process. `before` is called with every assignment, and may say that its node is lost."""

    before: Callable[[Assignment], Outcome | None] = lambda assignment: None
    name: str = "here"
    seen: list[Assignment] = field(default_factory=list)

    def start(self, assignments: Sequence[Assignment]) -> Sequence[Job]:
        return [self._done(assignment) for assignment in assignments]

    def _done(self, assignment: Assignment) -> Done:
        self.seen.append(assignment)
        outcome = self.before(assignment)
        if outcome is None:
            try:
                carry_out(assignment, "job 7")
            except Exception as error:
                outcome = Outcome(error=f"{type(error).__name__}: {error}")
        return Done(outcome or Outcome())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PULSE", 0.01)


def test_records_on_a_cluster_are_the_same_bytes(tmp_path: Path) -> None:
    plan = planned("by_epochs", "adamw", "sgd", trials_wanted=1, sampler_wanted="random")
    here, there = StudyFolder(tmp_path / "here"), StudyFolder(tmp_path / "there")
    engine.run(plan, here, Silent())
    summary = engine.run(plan, there, Silent(), workers=Remote(there, Here()))
    assert summary.ended == {"finished": 2 * 2 + 2 * 2}
    assert records_of(here.path) == records_of(there.path)
    times = there.read_times(evaluations(plan)[0].id if not plan.candidates else there.document().trials[-1].id)
    assert (times.end or {})["writer"] == {"attempt": 1, "job": "job 7", "node": socket.gethostname()}
    assert not (there.path / "leases").exists()


def test_a_lost_node_is_tried_again_three_times(tmp_path: Path) -> None:
    plan, folder = planned(seeds_wanted=1), StudyFolder(tmp_path)
    lost = Outcome(error="NodeDiedError: the node is gone", lost=True)
    cluster = Here(lambda assignment: lost if assignment.attempt < 4 else None)
    assert engine.run(plan, folder, Silent(), workers=Remote(folder, cluster)).ended == {"finished": 1}
    assert [assignment.attempt for assignment in cluster.seen] == [1, 2, 3, 4]
    other = StudyFolder(tmp_path / "other")
    assert engine.run(plan, other, Silent(), workers=Remote(other, Here(lambda _: lost))).ended == {"failed": 1}
    end = other.read_trial(evaluations(plan)[0].id).end or {}
    assert end["error"] == "NodeDiedError: the node is gone after 4 attempts"


def test_an_error_on_a_node_is_the_trials_end(tmp_path: Path) -> None:
    plan, folder = planned(seeds_wanted=1), StudyFolder(tmp_path)
    broken = Here(lambda assignment: Outcome(error="StudyError: node7 does not see the study in /tmp/x"))
    assert engine.run(plan, folder, Silent(), workers=Remote(folder, broken)).ended == {"failed": 1}
    assert "node7 does not see the study" in str(folder.read_trial(evaluations(plan)[0].id).end)


def test_a_node_without_the_folder_says_so(tmp_path: Path) -> None:
    document = evaluations(planned())[0].document()
    place = {"document": document, "data_dir": None, "seconds": 30.0, "engine": "here", "path": ()}
    with pytest.raises(StudyError, match=r"does not see the study in .*; give a folder that all nodes share: --out"):
        carry_out(Assignment(folder=str(tmp_path / "no"), directory=str(Path.cwd()), **place), "job")
    with pytest.raises(StudyError, match=r"has no folder /nowhere; start where all nodes see it"):
        carry_out(Assignment(folder=str(tmp_path), directory="/nowhere", **place), "job")


def test_a_restarted_driver_goes_on(tmp_path: Path) -> None:
    plan, folder = planned(seeds_wanted=3), StudyFolder(tmp_path)

    def stop(assignment: Assignment) -> None:
        if len(cluster.seen) == 2:
            raise KeyboardInterrupt

    cluster = Here(stop)
    assert engine.run(plan, folder, Silent(), workers=Remote(folder, cluster, at_once=1)).interrupted
    again = Here()
    summary = engine.run(plan, folder, Silent(), workers=Remote(folder, again, at_once=1))
    assert summary.skipped == 1
    assert len(again.seen) == 2


def test_a_job_that_is_lost_to_the_engine_but_writes_on_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second attempt would write into the same record."""
    monkeypatch.setattr(remote, "EXPIRY", 1.0)
    plan, folder = planned(seeds_wanted=1), StudyFolder(tmp_path)
    spec = evaluations(plan)[0]
    threads: list[threading.Thread] = []

    def orphan(assignment: Assignment) -> Outcome:
        def write() -> None:
            held = lease(folder.path / "leases" / f"{spec.id}.json", "elsewhere")
            assert held.take(0)
            time.sleep(0.5)
            held.release()
            carry_out(assignment, "orphan")

        if not threads:
            threads.append(threading.Thread(target=write))
            threads[0].start()
            while folder.lease(spec.id) is None:
                time.sleep(0.01)
        return Outcome(error="lost", lost=True)

    cluster = Here(orphan)
    summary = engine.run(plan, folder, Silent(), workers=Remote(folder, cluster))
    threads[0].join()
    assert summary.ended == {"finished": 1}
    assert (folder.read_times(spec.id).end or {})["writer"]["job"] == "orphan"


def test_no_more_jobs_run_than_are_wanted(tmp_path: Path) -> None:
    plan, folder = planned(seeds_wanted=5), StudyFolder(tmp_path)
    sizes: list[int] = []

    class Counting(Here):
        def start(self, assignments: Sequence[Assignment]) -> Sequence[Job]:
            sizes.append(len(assignments))
            return super().start(assignments)

    with folder.writing():
        folder.write_document(plan.document)
        workers = Remote(folder, Counting(), at_once=2)
        for spec in evaluations(plan):
            workers.submit(spec)
        updates = updates_of(workers)
    assert sizes == [2, 2, 1]
    assert sum(update.event is None for update in updates) == 5


def lease(path: Path, node: str = "a", **quicker: Any) -> Lease:
    return Lease(path, Writer("job", node, 1), **{"heartbeat": 0.05, "expiry": 0.6, **quicker})


def test_a_lease_is_held_while_its_holder_lives_and_expires_after(tmp_path: Path) -> None:
    path = tmp_path / "leases" / "trial.json"
    one, other = lease(path), lease(path, "b")
    assert one.take(0)
    assert not other.take(1.0)  # it beats
    one.check()
    one._released.set()  # the node is lost: nothing beats any more, and nothing is released
    began = time.monotonic()
    assert other.take(5.0)
    assert time.monotonic() - began >= 0.5
    other.check()
    assert json.loads(path.read_bytes())["node"] == "b"
    one.release()  # it comes back, and leaves the other's lease alone
    assert path.exists()
    other.release()
    assert not path.exists()


def test_a_holder_that_stood_still_does_not_write_on(tmp_path: Path) -> None:
    path = tmp_path / "leases" / "trial.json"
    slow, other = lease(path, heartbeat=0.8, expiry=0.3), lease(path, "b", expiry=0.3)
    assert slow.take(0)
    assert other.take(3.0)
    slow._thread.join(3.0)
    with pytest.raises(StoreError, match="was taken by another node while this one stood still"):
        slow.check()
    other.release()


def test_a_dead_process_of_the_same_node_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "leases" / "trial.json"
    path.parent.mkdir()
    gone = {"node": "a", "holder": "x", "process": 2**22 - 1, "job": "j", "attempt": 1, "beats": 3}
    path.write_text(json.dumps(gone))
    mine = lease(path, expiry=60.0)
    assert mine.take(2.0)
    mine.release()


def take(one: Lease, taken: list[Lease]) -> None:
    if one.take(0):
        taken.append(one)


def test_two_that_take_a_free_lease_at_once_do_not_both_have_it(tmp_path: Path) -> None:
    path = tmp_path / "leases" / "trial.json"
    for _ in range(5):
        leases = [lease(path, f"node{number}", expiry=30.0) for number in range(4)]
        taken: list[Lease] = []
        threads = [threading.Thread(target=take, args=(one, taken)) for one in leases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        taken[0].release()


def test_a_record_that_another_node_writes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, folder = planned(seeds_wanted=1), StudyFolder(tmp_path)
    spec = evaluations(plan)[0]
    monkeypatch.setattr(store, "LONG_PATIENCE", 0.5)
    with folder.writing():
        held = lease(folder.path / "leases" / f"{spec.id}.json", "elsewhere")
        assert held.take(0)
        with pytest.raises(StoreError, match="is being written by a process"):
            folder.log(spec.id, Writer.here("job", 1))
        held.release()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"on": "rey"}, "unknown engine 'rey'; did you mean 'ray'? Choose from processes, ray, slurm."),
        ({"gpus": 1}, "--gpus-per-trial has no effect with --on processes; leave it out"),
        ({"gpus": -1, "on": "ray"}, "--gpus-per-trial must be a number of at least 0, not -1"),
        ({"address": "auto"}, "--ray-address has no effect with --on processes"),
        ({"slurm": "a=1", "on": "ray"}, "--slurm has no effect with --on ray"),
        (
            {"time_limit": 3, "on": "slurm"},
            "--time-limit has no effect with --on slurm; leave it out; give --slurm timeo",
        ),
        ({"jobs": 0}, "--jobs must be at least 1, not 0"),
    ],
)
def test_options_that_an_engine_has_no_use_for_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        WorkerLimits(**options)


def test_a_missing_cluster_or_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--on slurm needs a node of a Slurm cluster: there is no command sbatch here"):
        SlurmCluster(tmp_path)
    limits = WorkerLimits(on="slurm", slurm="partition")
    workers = limits.workers(StudyFolder(tmp_path), None, request())
    with pytest.raises(UsageError, match="--slurm takes KEY=VALUE"), workers:
        pass
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r'needs submitit, which is not installed: pip install "steepest\[slurm\]"'):
        SlurmCluster(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r'--on ray needs Ray, which is not installed: pip install "steepest\[ray\]"'):
        RayCluster()


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # submitit waits for no process of its own
def test_a_preempted_job_of_slurm_goes_on(tmp_path: Path) -> None:
    """Processes in place of Slurm; the signal is the one that Slurm sends."""
    pytest.importorskip("submitit")
    plan = planned("by_steps", steps_wanted=4000, seeds_wanted=2)
    folder, alone = StudyFolder(tmp_path / "there"), StudyFolder(tmp_path / "here")
    cluster = SlurmCluster(folder.path / "slurm", kind="local", options={"timeout_min": 5})
    preempted: list[int] = []

    def preempt() -> None:
        while not any((folder.path / "checkpoints").glob("*.pt")):
            time.sleep(0.05)
        spec = next((folder.path / "checkpoints").glob("*.pt")).stem
        process = json.loads(folder.lease(spec) or b"{}")["process"]
        preempted.append(process)
        os.kill(process, signal.SIGUSR2)

    threading.Thread(target=preempt, daemon=True).start()
    summary = engine.run(plan, folder, Silent(), workers=Remote(folder, cluster, seconds=0.2))
    assert summary.ended == {"finished": 2}
    assert preempted
    engine.run(plan, alone, Silent())
    assert records_of(folder.path) == records_of(alone.path)
    attempts = [(folder.read_times(spec.id).end or {})["writer"]["attempt"] for spec in evaluations(plan)]
    assert sorted(attempts) == [1, 2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_node_of_ray_is_killed_in_the_middle(tmp_path: Path) -> None:
    """Two nodes on this machine, each with one core; the one that trains is killed."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    plan = planned("by_steps", steps_wanted=25000, seeds_wanted=2)
    folder, alone = StudyFolder(tmp_path / "there"), StudyFolder(tmp_path / "here")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        first, _ = nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        cluster = RayCluster(nodes.address, cpus=1)
        killed: list[int] = []

        def kill() -> None:
            while len([*(folder.path / "checkpoints").glob("*.pt")]) < 2:  # both nodes are busy
                time.sleep(0.05)
            nodes.remove_node(first, allow_graceful=False)
            killed.append(1)

        threading.Thread(target=kill, daemon=True).start()
        summary = engine.run(plan, folder, Silent(), workers=Remote(folder, cluster, seconds=0.2))
    finally:
        import ray

        ray.shutdown()
        nodes.shutdown()
    assert killed
    assert summary.ended == {"finished": 2}
    engine.run(plan, alone, Silent())
    assert records_of(folder.path) == records_of(alone.path)
    attempts = [(folder.read_times(spec.id).end or {})["writer"]["attempt"] for spec in evaluations(plan)]
    assert max(attempts) >= 2
