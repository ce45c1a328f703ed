"""Trials as an array of Slurm jobs, through submitit. A preempted job is put into the queue again."""

import importlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from steepest.study.errors import UsageError
from steepest.study.running.remote import Assignment, Job, Outcome, carry_out

LOST: Final = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "INTERRUPTED")
"""States of Slurm after which a trial is tried again from its checkpoint."""


class SlurmCluster:
    """A cluster of Slurm.

    Args:
        folder: the folder of scripts and logs, which all nodes share.
        cpus, gpus: cores and GPUs of a trial.
        options: options of submitit's executor, such as `timeout_min` or `slurm_partition`.
        kind: `slurm`, or `local` for processes of this machine in its place.
    """

    name = "slurm"

    def __init__(
        self,
        folder: Path,
        *,
        cpus: int = 1,
        gpus: int = 0,
        options: Mapping[str, Any] | None = None,
        kind: str = "slurm",
    ) -> None:
        try:
            self._submitit: Any = importlib.import_module("submitit")
        except ModuleNotFoundError as error:
            raise UsageError(
                '--on slurm needs submitit, which is not installed: pip install "steepest[slurm]"'
            ) from error
        if kind == "slurm" and shutil.which("sbatch") is None:
            raise UsageError("--on slurm needs a node of a Slurm cluster: there is no command sbatch here")
        self._executor = self._submitit.AutoExecutor(folder=str(folder), cluster=kind)
        usual = {"name": "steepest", "cpus_per_task": cpus, "gpus_per_node": gpus, "timeout_min": 24 * 60}
        try:
            self._executor.update_parameters(**{**usual, **(options or {})})
        except (NameError, ValueError, TypeError) as error:
            raise UsageError(f"--slurm has an option that submitit refuses: {error}") from error

    def start(self, assignments: Sequence[Assignment]) -> Sequence[Job]:
        """Submit the assignments as one array of jobs."""
        with self._executor.batch():
            jobs = [self._executor.submit(Carrier(), assignment) for assignment in assignments]
        return [_SlurmJob(job) for job in jobs]


class Carrier:
    """The function of a job. `checkpoint` is what submitit calls when the job is preempted."""

    def __call__(self, assignment: Assignment) -> None:
        """Carry out the assignment."""
        carry_out(assignment, os.environ.get("SLURM_JOB_ID") or f"process {os.getpid()}")

    def checkpoint(self, assignment: Assignment) -> Any:
        """Return the same job for the queue. Its trial resumes from its last checkpoint."""
        submitit: Any = importlib.import_module("submitit")
        return submitit.helpers.DelayedSubmission(self, replace(assignment, attempt=assignment.attempt + 1))


class _SlurmJob:
    def __init__(self, job: Any) -> None:
        self._job = job

    def outcome(self) -> Outcome | None:
        if not self._job.done():
            return None
        error = self._job.exception()
        if error is None:
            return Outcome()
        lost = self._job.state in LOST or type(error).__name__ == "UncompletedJobError"
        text = f"{type(error).__name__}: {error}"
        return Outcome(error=text.strip().splitlines()[-1] if not lost else text.partition("\n")[0], lost=lost)

    def cancel(self) -> None:
        self._job.cancel()
