"""The number of trials that run at once, and the time limit of each."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from steepest.study.errors import UsageError
from steepest.study.planning.request import Request
from steepest.study.running.processes import Processes
from steepest.study.running.store import StudyFolder
from steepest.study.trials import devices


@dataclass(frozen=True)
class WorkerLimits:
    """The number of trials that run at once, and the minutes that each may take."""

    jobs: int = 1
    time_limit: float | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for numbers out of range."""
        if self.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, not {self.jobs}")
        if self.time_limit is not None and not 0 < self.time_limit < math.inf:
            raise UsageError(f"--time-limit must be a number of minutes above 0, not {self.time_limit:g}")

    @property
    def threads(self) -> int:
        """The default threads of a trial: torch's own number, divided between the jobs."""
        return max(1, torch.get_num_threads() // self.jobs)

    def workers(self, folder: StudyFolder, data_dir: Path | None, request: Request) -> Processes:
        """Return the processes that run the trials. They take turns on the devices that a request may use."""
        limit = None if self.time_limit is None else 60 * self.time_limit
        environments = devices.environments(request.device, deterministic=request.deterministic)
        return Processes(folder, self.jobs, data_dir=data_dir, time_limit=limit, environments=environments)
