"""Trials as tasks of Ray, on a running cluster or on a local one."""

import importlib
from collections.abc import Sequence
from typing import Any

from steepest.study.errors import UsageError
from steepest.study.running.remote import Assignment, Job, Outcome, carry_out


class RayCluster:
    """A cluster of Ray. A lost task is submitted again by the study, so Ray itself tries nothing twice.

    Args:
        address: the address of a running cluster, `auto` for the one of this machine; None starts a local one.
        cpus: cores of a trial.
        gpus: GPUs of a trial; 0.5 lets two trials share one.
    """

    name = "ray"

    def __init__(self, address: str | None = None, *, cpus: float = 1, gpus: float = 0) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ModuleNotFoundError as error:
            raise UsageError('--on ray needs Ray, which is not installed: pip install "steepest[ray]"') from error
        if not self._ray.is_initialized():
            try:
                self._ray.init(address=address, log_to_driver=False, include_dashboard=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise UsageError(f"no cluster of Ray answers at {address}: {error}") from error
        self._check_resources(cpus, gpus)
        self._task = self._ray.remote(max_retries=0, num_cpus=cpus, num_gpus=gpus)(_run)

    def start(self, assignments: Sequence[Assignment]) -> Sequence[Job]:
        """Submit one task per assignment."""
        return [_RayJob(self._ray, self._task.remote(assignment)) for assignment in assignments]

    def _check_resources(self, cpus: float, gpus: float) -> None:
        """Raise UsageError if no trial would ever fit."""
        there = self._ray.cluster_resources()
        for name, wanted in (("CPU", cpus), ("GPU", gpus)):
            if wanted > there.get(name, 0):
                raise UsageError(f"a trial needs {wanted:g} {name}, and the cluster of Ray has {there.get(name, 0):g}")


def _run(assignment: Assignment) -> None:
    context: Any = importlib.import_module("ray").get_runtime_context()
    carry_out(assignment, str(context.get_task_id()))


class _RayJob:
    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray = ray
        self._reference = reference

    def outcome(self) -> Outcome | None:
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            self._ray.get(self._reference)
        except self._ray.exceptions.RayTaskError as error:
            return Outcome(error=f"{type(error.cause).__name__}: {error.cause}")
        except self._ray.exceptions.RayError as error:
            return Outcome(error=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", lost=True)
        return Outcome()

    def cancel(self) -> None:
        self._ray.cancel(self._reference, force=True)
