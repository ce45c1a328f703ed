"""What a study's harness costs over a bare training loop, what a trial's start costs, and what two jobs gain.

Run it as ``python benchmarks/study_overhead.py [OUT.json]``. The bare loop and the harness take turns on the same
model, batches, optimizer and number of steps, evaluation left out; figures are medians of the rounds' ratios.
"""

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from steepest.study import seeds, workloads
from steepest.study.data import adapt
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.records import machine
from steepest.study.running.execution import execute
from steepest.study.running.memory import keep_freed_memory
from steepest.study.running.processes import Processes
from steepest.study.running.store import StudyFolder
from steepest.study.trials.performance import warm_up
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.task import Task, initial_model, steps_per_epoch
from steepest.study.trials.trial import Event

ROUNDS = 7
SECONDS = 30.0  # between checkpoints, as in a study


def planned(workload: str, optimizer: str, preset: str = "smoke", **wanted: Any) -> Plan:
    """Return a plan without a search."""
    request = Request(workloads.find(workload), preset, (optimizer,), trials_wanted=0, timing_rounds=0, **wanted)
    return make_plan(request, adapt.load(request.workload.data), "benchmark")


def blind(task: Task) -> Task:
    """Return the task with nothing to evaluate on but one example."""
    splits = task.splits
    none, one = splits.validation.at(torch.arange(0)), splits.test.at(torch.arange(1))
    return dataclasses.replace(task, splits=dataclasses.replace(splits, validation=none, test=one))


def bare(spec: TrialSpec, task: Task) -> float:
    """Return the seconds of a plain loop: batch, forward, backward, step, and the loss as a number."""
    warm_up(spec, task)
    with seeds.GlobalStream("init", spec.seed).active():
        model = initial_model(task)
    optimizer = spec.config.build(model)
    order = seeds.generator("order", spec.seed)
    began = time.perf_counter()
    for _ in range(spec.epochs):
        for indices in torch.split(torch.randperm(len(task.splits.train), generator=order), spec.batch_size):
            inputs, targets = task.splits.train.batch(indices)
            optimizer.zero_grad()
            loss = task.loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            loss.item()
    return time.perf_counter() - began


def harness(spec: TrialSpec, task: Task) -> float:
    """Return the seconds from the first step's record to the last's, all records written."""
    with tempfile.TemporaryDirectory() as path:
        folder = StudyFolder(Path(path))
        with folder.writing():
            moments: list[float] = []

            def tell(event: Event) -> None:
                if event.record["kind"] == "step":
                    moments.append(time.perf_counter())

            execute(spec, lambda: task, folder, tell, SECONDS)
    return (moments[-1] - moments[0]) * len(moments) / (len(moments) - 1)  # the first step began before its record


def overhead(plan: Plan) -> dict[str, float]:
    """Return the median ratio of the two, and the bare loop's step."""
    spec, task = plan.evaluation_trials(plan.given)[0].spec, blind(plan.task)
    rounds = [(bare(spec, task), harness(spec, task)) for _ in range(ROUNDS)]
    steps = spec.epochs * steps_per_epoch(spec.batch_size, task.splits.train)
    return {
        "ratio": median(ours / theirs for theirs, ours in rounds),
        "lowest": min(ours / theirs for theirs, ours in rounds),
        "highest": max(ours / theirs for theirs, ours in rounds),
        "bare_step_milliseconds": 1000 * median(theirs for theirs, _ in rounds) / steps,
        "steps": steps,
    }


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def jobs(plan: Plan) -> dict[str, float]:
    """Return how many times as many trials two jobs finish in a time, workers warm, and the seconds of one trial."""
    with tempfile.TemporaryDirectory() as path:
        one, two = (run_on(plan, Path(path) / f"{number}", number) for number in (1, 2))
    return {"throughput_of_two_jobs": one / two, "seconds_per_trial": one}


def run_on(plan: Plan, path: Path, number: int) -> float:
    """Return the seconds that warm workers take for a plan's evaluation."""
    folder = StudyFolder(path)
    with folder.writing(), Processes(folder, number) as workers:
        trials = [trial.spec for trial in plan.evaluation_trials(plan.given)]
        warm, rest = trials[: 2 * number], trials[2 * number :]
        drain(workers, warm)
        return seconds(lambda: drain(workers, rest)) / len(rest)


def drain(workers: Processes, trials: list[TrialSpec]) -> None:
    """Run trials to their ends."""
    for trial in trials:
        workers.submit(trial)
    workers.collect(lambda update: None)


def main() -> None:
    """Measure and print."""
    keep_freed_memory()
    found = {
        "machine": machine.machine() | machine.versions(),
        "cnn": overhead(planned("fashion-mnist", "adam", epochs_wanted=8)),
        "digits_mlp": overhead(planned("digits-mlp", "adam", "quick", epochs_wanted=25)),
        "jobs": jobs(planned("mini-batch", "adam", epochs_wanted=60, seeds_wanted=40, threads=1)),
    }
    print(json.dumps(found, indent=2))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
