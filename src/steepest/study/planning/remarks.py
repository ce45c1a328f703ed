"""Remarks on parts of a request that have no effect. An obvious mistake raises an error instead."""

import inspect
from collections.abc import Iterator

from steepest.study.data import adapt
from steepest.study.declaration import Workload
from steepest.study.errors import UsageError
from steepest.study.optimizers import schedules
from steepest.study.optimizers.config import OptimizerConfig, own_setting
from steepest.study.planning import search
from steepest.study.planning.request import Request


def remarks(request: Request, data_dir: object = None) -> list[str]:
    """Return a sentence for every part of the request that has no effect, or not on every optimizer."""
    return [
        *_preset(request),
        *_data_dir(request, data_dir),
        *(line for config in request.configs for line in (*_left_out(request, config), *_schedule(request, config))),
        *_schedule_of_nobody(request),
        *_unsearched(request),
    ]


def check_extend(request: Request) -> None:
    """Raise UsageError if there is not a search to extend."""
    if not request.trials:
        raise UsageError("--extend has no effect with --trials 0, as nothing is searched; leave it out")


def _preset(request: Request) -> Iterator[str]:
    if request.preset_wanted and not inspect.signature(request.declared.build).parameters:
        yield (
            f"--preset {request.preset_wanted} changes nothing but the folder's name: {request.declared.source} is a "
            "function of nothing, so that all of its sizes are alike"
        )


def _data_dir(request: Request, data_dir: object) -> Iterator[str]:
    workload = request.workload
    if data_dir is not None and not (isinstance(workload, Workload) and adapt.takes_folder(workload.data)):
        yield f"--data-dir {data_dir} has no effect: the data of {request.declared.source} are read from no folder"


def _left_out(request: Request, config: OptimizerConfig) -> Iterator[str]:
    """Yield a sentence on the options of a twin's setting that do not hold for an optimizer."""
    settings = request.workload.settings
    setting, twins = own_setting(config.source, config.origin, settings)
    if setting is not None:
        return
    adopted = config.origin.adopted(twins)
    left_out = [name for name in twins if name not in adopted or not _has(config, name)]
    if left_out:
        yield (
            f"{config.label} runs without the workload's {', '.join(left_out)} of {config.origin.twin}: it has "
            "no such option, or sets it itself"
        )


def _has(config: OptimizerConfig, name: str) -> bool:
    wholes = [whole for whole, entries in config.origin.entries.items() if name in entries]
    return bool({name, *wholes} & config.options.keys())


def _schedule(request: Request, config: OptimizerConfig) -> Iterator[str]:
    """Yield a sentence on names that do not mean the optimizer's schedule, and on a schedule that it does not take."""
    own = [name for name in schedules.KEYS if name in config.fixed.intersection(config.origin.names)]
    if own and config.origin.takes_schedule:
        yield (
            f"{', '.join(own)} in the brackets of {config.label} is the optimizer's own option; its schedule's is "
            "written schedule='cosine[warmup=0.1]', or for all in --schedule"
        )
    keeps = not config.origin.takes_schedule or (config.origin.usual_schedule and not config.has_own_schedule)
    if request.schedule_wanted is not None and keeps and config.schedule != request.schedule:
        why = "averages in its place" if config.origin.takes_schedule else "finds its own steps"
        kept = f"{config.label}, which {why}: its rate is {config.schedule}"
        yield f"--schedule {request.schedule} does not hold for {kept}"


def _schedule_of_nobody(request: Request) -> Iterator[str]:
    takers = [config for config in request.configs if config.origin.takes_schedule]
    if request.schedule_wanted is not None and takers and all(config.has_own_schedule for config in takers):
        yield f"--schedule {request.schedule} has no effect: every optimizer has a schedule of its own"


def _unsearched(request: Request) -> Iterator[str]:
    """Yield a sentence on the optimizers that run with their settings although there is a search."""
    if not request.trials:
        return
    for config in request.configs:
        space = request.own_space(config)
        if not search.space_of(config, request.searched, space):
            yield (
                f"{config.label} has nothing to search ({', '.join(request.searched)}: given in brackets, or without a "
                "declared range): it runs as it is given, untuned"
            )
