"""Weights & Biases: an offline run for every trial."""

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from steepest.study.records.format import FINISHED, INTERRUPTED
from steepest.study.report.loggers.base import LoggedTrial, package


class WandB:
    """An offline run for every trial, which `wandb sync` sends when its user wants that.

    The study is the run's project, the optimizer its group, and the phase its kind of job. Its id follows from the
    study and the trial, so that the same trial is always the same run.
    """

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing goes over a network
        self._wandb = package("wandb", "Weights & Biases", "wandb")
        self._folder = folder

    def begin_trial(self, trial: LoggedTrial) -> None:
        """Begin a run in place of the older one."""
        name = hashlib.sha256(f"{trial.study} {trial.started} {trial.id}".encode()).hexdigest()[:16]
        for old in (self._folder / "wandb").glob(f"offline-run-*-{name}"):
            shutil.rmtree(old)
        self._folder.mkdir(parents=True, exist_ok=True)
        quiet = self._wandb.Settings(
            silent=True, console="off", disable_code=True, disable_git=True, x_disable_meta=True, x_disable_stats=True
        )
        self._run = self._wandb.init(
            mode="offline",
            dir=self._folder,
            id=name,
            name=trial.id,
            project=re.sub(r"[^\w.-]", "-", trial.study),
            group=trial.optimizer,
            job_type=trial.phase,
            config={**trial.config, "seed": trial.seed, "optimizer": trial.optimizer, **trial.hyperparameters},
            reinit="create_new",
            settings=quiet,
        )

    def points(self, step: int, values: Mapping[str, float]) -> None:
        """Log the figures of a step."""
        self._run.log(dict(values), step=step)

    def end_trial(self, status: str, results: Mapping[str, float]) -> None:
        """Put the results and the status into the run's summary and finish it."""
        self._run.summary.update({**results, "status": status})
        self._run.finish(exit_code=0 if status in (FINISHED, INTERRUPTED) else 1)
