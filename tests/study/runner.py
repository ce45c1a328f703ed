"""A study in a process of its own, to be killed: `runner.py FOLDER FILE`. Prints a line for everything that happens."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steepest.study import workloads
from steepest.study.data import adapt
from steepest.study.declaration import Workload
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.running import engine
from steepest.study.running.processes import Processes
from steepest.study.running.store import StudyFolder
from steepest.study.trials.spec import TrialSpec
from steepest.study.trials.trial import Event

MY_TASK = str(Path(__file__).with_name("my_task.py"))
WANTED: dict[str, Any] = {
    "optimizers": ("adam[ema_decay=0.9]", "torch.optim:SGD[momentum=0.9]"),
    "seeds_wanted": 2,
    "timing_rounds": 0,
    "threads": 1,
}
LENGTHS: dict[str, dict[str, Any]] = {
    "my_task.py": {"trials_wanted": 1, "epochs_wanted": 15, "sampler_wanted": "random"},
    "tabular.py": {"trials_wanted": 0, "epochs_wanted": 40, "schedule_wanted": "cosine"},
    "accumulation.py": {"trials_wanted": 0, "steps_wanted": 200, "schedule_wanted": "cosine"},
}


class Told:
    """Prints."""

    def stage_started(self, trials: Sequence[TrialSpec]) -> None:
        pass

    def trial_started(self, trial: TrialSpec) -> None:
        print("started", trial.id, flush=True)

    def trial_event(self, trial: TrialSpec, event: Event) -> None:
        print(event.record["kind"], trial.id, flush=True)


def made_plan(file: str = MY_TASK) -> Plan:
    """Return four trials that search and four that evaluate, of 30 steps each; of an experiment, four of 200 steps."""
    request = Request(workloads.find(file), "smoke", **WANTED, **LENGTHS[Path(file).name])
    data = adapt.load(request.workload.data) if isinstance(request.workload, Workload) else None
    return make_plan(request, data, "runner")


if __name__ == "__main__":
    folder = StudyFolder(Path(sys.argv[1]))
    with Processes(folder, 2, seconds=0) as workers:
        summary = engine.run(made_plan(sys.argv[2]), folder, Told(), workers=workers)
    print("tally", dict(summary.ended), summary.notes, flush=True)
