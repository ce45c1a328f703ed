"""A stored study's request made anew from its document, on seeds and search points that the study has not used."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from steepest.fields import Search
from steepest.study import source_code, workloads
from steepest.study.errors import UsageError
from steepest.study.optimizers import schedules
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.optimizers.source import storable
from steepest.study.planning import merge, search
from steepest.study.planning.request import Request
from steepest.study.planning.search import Space
from steepest.study.records.format import FROM_PYTHON, Dimension, OptimizerEntry, SearchedValues, StudyDocument
from steepest.study.records.records import plain


@dataclass(frozen=True)
class StoredRequest(Request):
    """The request of a stored study. Its optimizers and their spaces are the document's, not read from texts.

    Attributes:
        entries: the document's optimizers.
    """

    entries: tuple[OptimizerEntry, ...] = ()

    def __post_init__(self) -> None:
        """Check the seeds; all else was checked when the study was planned."""
        self._check_seeds_are_fresh()

    @cached_property
    def configs(self) -> tuple[OptimizerConfig, ...]:
        """The optimizers, in the document's order."""
        return tuple(map(_config, self.entries))

    def own_space(self, config: OptimizerConfig) -> Space:
        """Return the stored search space of an optimizer."""
        space = next(entry.space for entry in self.entries if entry.label == config.label)
        return {name: _dimension(name, dimension) for name, dimension in space.items()}


def replicating(document: StudyDocument, path: Path) -> StoredRequest:
    """Return the request of the study in a document on fresh evaluation seeds and with the next draw of the search.

    Raises:
        UsageError: the study was run from Python, or its workload cannot be found.
    """
    config, protocol = document.config, document.protocol
    if config.task.source.partition(":")[0] == FROM_PYTHON:
        raise UsageError(
            f"{path} was run from Python, and its model is not in the folder; call steepest.study.compare again with "
            f"another out, seed_offset={max(config.seeds) + 1} and search_seed={protocol.search_seed + 1}"
        )
    return StoredRequest(
        declared=workloads.find(config.task.source),
        preset_wanted=document.preset,
        horizon_wanted=config.epochs,
        seeds_wanted=protocol.looks[0] if protocol.looks else len(config.seeds),
        more_seeds_wanted=protocol.looks[-1] if protocol.looks else None,
        trials_wanted=protocol.trials,
        tuning_seeds_wanted=len(protocol.tuning_seeds) or None,
        timing_rounds=protocol.timing_rounds,
        match=protocol.match,
        sampler_wanted=protocol.sampler,
        searched_wanted=protocol.searched,
        schedule_wanted=protocol.schedule,
        reference_wanted=protocol.reference,
        extensions=protocol.extensions,
        precision=config.precision,
        device_wanted=config.device.kind if config.device else "cpu",
        deterministic=config.deterministic,
        behaviour=config.behaviour,
        sharpness=config.sharpness,
        all_train=config.all_train,
        threads=document.threads,
        seed_offset=max(config.seeds) + 1,
        search_seed=protocol.search_seed + 1 if protocol.trials else 0,
        entries=document.optimizers,
    )


def check_same(old: StudyDocument, new: StudyDocument) -> None:
    """Raise UsageError if the plan that was made anew differs in more than seeds and points, or its code does.

    The machine may be another one.
    """
    drawn = ("seed_offset", "search_seed", "tuning_seeds")
    protocol = replace(new.protocol, **{name: getattr(old.protocol, name) for name in drawn})
    points = {entry.label: entry.points for entry in old.optimizers}
    optimizers = tuple(replace(entry, points=points[entry.label]) for entry in new.optimizers)
    alike = replace(new, protocol=protocol, optimizers=optimizers, machine=old.machine)
    different = [*merge.differences(old, alike), *source_code.changes(old.code, new.code)]
    if different:
        raise UsageError(f"the study cannot be replicated, there and here: {'; '.join(different)}")


def _config(entry: OptimizerEntry) -> OptimizerConfig:
    """Return the stored optimizer. All that its search does not draw is fixed."""
    config = OptimizerConfig.read(plain(entry))
    names = {*config.origin.names, *config.origin.ranges, *config.origin.entries, *schedules.KEYS}
    members = {member for whole in config.origin.entries.values() for member in whole}
    return replace(config, fixed=frozenset((names | members) - entry.space.keys()))


def _dimension(name: str, stored: Dimension) -> search.Dimension:
    if isinstance(stored, SearchedValues):
        return search.Choice(tuple(storable(name, value) for value in stored.values))
    ends: Mapping[str, Any] = vars(stored)
    return search.Range(Search(**ends))
