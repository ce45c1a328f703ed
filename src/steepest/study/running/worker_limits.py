"""The engine that runs the trials, their number at once, and the time limit of each."""

import ast
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from steepest.study.errors import UsageError
from steepest.study.planning.request import Request
from steepest.study.running.processes import Processes
from steepest.study.running.ray_cluster import RayCluster
from steepest.study.running.remote import Cluster, Remote
from steepest.study.running.slurm_cluster import SlurmCluster
from steepest.study.running.store import StudyFolder
from steepest.study.running.workers import Workers
from steepest.study.suggest import choices
from steepest.study.trials import devices

PROCESSES: Final = "processes"


@dataclass(frozen=True)
class WorkerLimits:
    """The number of trials that run at once, the minutes that each may take, and the engine that runs them.

    Attributes:
        jobs: trials at once; None is one process, or as many jobs as a cluster has room for.
        time_limit: minutes of a trial.
        on: the engine: `processes`, `ray` or `slurm`.
        gpus: GPUs of a trial on a cluster.
        address: the address of a running cluster of Ray; None starts a local one.
        slurm: options of Slurm, `KEY=VALUE,...`.
    """

    jobs: int | None = None
    time_limit: float | None = None
    on: str = PROCESSES
    gpus: float = 0
    address: str | None = None
    slurm: str = ""

    def __post_init__(self) -> None:
        """Raise UsageError for numbers out of range, and for options that the engine has no use for."""
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, not {self.jobs}")
        if self.time_limit is not None and not 0 < self.time_limit < math.inf:
            raise UsageError(f"--time-limit must be a number of minutes above 0, not {self.time_limit:g}")
        if self.on not in (PROCESSES, *CLUSTERS):
            raise UsageError(choices("engine", self.on, (PROCESSES, *CLUSTERS)))
        if not 0 <= self.gpus < math.inf:
            raise UsageError(f"--gpus-per-trial must be a number of at least 0, not {self.gpus:g}")
        useless = {
            "--gpus-per-trial": self.gpus and self.on == PROCESSES,
            "--ray-address": self.address and self.on != "ray",
            "--slurm": self.slurm and self.on != "slurm",
            "--time-limit": self.time_limit is not None and self.on != PROCESSES,
        }
        for option, given in useless.items():
            if given:
                advice = "; give --slurm timeout_min=..." if option == "--time-limit" and self.on == "slurm" else ""
                raise UsageError(f"{option} has no effect with --on {self.on}; leave it out{advice}")

    @property
    def at_once(self) -> int:
        """The number of trials that share this machine."""
        return (self.jobs or 1) if self.on == PROCESSES else 1

    @property
    def threads(self) -> int:
        """The default threads of a trial: torch's own number, divided between the jobs of this machine."""
        return max(1, torch.get_num_threads() // self.at_once)

    @contextmanager
    def workers(self, folder: StudyFolder, data_dir: Path | None, request: Request) -> Iterator[Workers]:
        """Yield what runs the trials. Processes take turns on the devices that a request may use."""
        if self.on != PROCESSES:
            cluster = CLUSTERS[self.on](self, folder, request)
            yield Remote(folder, cluster, at_once=self.jobs, data_dir=data_dir)
            return
        limit = None if self.time_limit is None else 60 * self.time_limit
        environments = devices.environments(request.device, deterministic=request.deterministic)
        with Processes(
            folder, self.at_once, data_dir=data_dir, time_limit=limit, environments=environments
        ) as processes:
            yield processes


def _ray(limits: WorkerLimits, folder: StudyFolder, request: Request) -> Cluster:
    del folder
    return RayCluster(limits.address, cpus=request.thread_count, gpus=limits.gpus)


def _slurm(limits: WorkerLimits, folder: StudyFolder, request: Request) -> Cluster:
    if limits.gpus % 1:
        raise UsageError(f"--gpus-per-trial must be a whole number on Slurm, not {limits.gpus:g}")
    options = _options(limits.slurm)
    return SlurmCluster(folder.path / "slurm", cpus=request.thread_count, gpus=int(limits.gpus), options=options)


def _options(text: str) -> dict[str, Any]:
    """Read `KEY=VALUE,...`."""
    options: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise UsageError(f"--slurm takes KEY=VALUE,... such as slurm_partition=gpu,timeout_min=600, not {part!r}")
        try:
            options[key.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key.strip()] = value
    return options


CLUSTERS: Final[dict[str, Callable[[WorkerLimits, StudyFolder, Request], Cluster]]] = {"ray": _ray, "slurm": _slurm}
"""The engines that are clusters, by the name that --on takes."""
