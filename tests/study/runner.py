"""A study in a process of its own, to be killed: `runner.py FOLDER`. Prints a line for everything that happens."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.running import engine
from steepest.study.running.processes import Processes
from steepest.study.running.store import StudyFolder
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

from steepest.study import workloads
from steepest.study.data import adapt

MY_TASK = str(Path(__file__).with_name("my_task.py"))
WANTED: dict[str, Any] = {
    "optimizers": ("adam[ema_decay=0.9]", "torch.optim:SGD[momentum=0.9]"),
    "trials_wanted": 1,
    "epochs_wanted": 15,
    "seeds_wanted": 2,
    "timing_rounds": 0,
    "sampler_wanted": "random",
    "threads": 1,
}


class Told:
    """Prints."""

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        pass

    def trial_started(self, trial: TrialSpec) -> None:
        print("started", trial.id, flush=True)

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        print(event.record["kind"], trial.id, flush=True)


def made_plan() -> Plan:
    """Return four trials that search and four that evaluate, of 30 steps each."""
    request = Request(workloads.find(MY_TASK), "smoke", **WANTED)
    return make_plan(request, adapt.load(request.workload.data), "runner")


if __name__ == "__main__":
    folder = StudyFolder(Path(sys.argv[1]))
    with Processes(folder, 2, seconds=0) as workers:
        summary = engine.run(made_plan(), folder, Told(), workers=workers)
    print("tally", dict(summary.ended), summary.notes, flush=True)
