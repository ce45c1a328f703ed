"""The introduction to a study, printed before it runs: the data that were found, the model, the settings in force."""

from collections.abc import Mapping

from rich.console import Console

from steepest import transforms
from steepest.cli import text, verdicts
from steepest.fields import EXECUTION_SWITCHES, STORAGE_OPTIONS
from steepest.study.optimizers import schedules
from steepest.study.optimizers.config import OptimizerConfig
from steepest.study.planning import estimate
from steepest.study.planning.plan import Plan
from steepest.study.records.format import Data
from steepest.study.running.preparation import Prepared


def show(screen: Console, prepared: Prepared) -> None:
    """Print the introduction. A stand-in for missing data is named first, in a warning."""
    request, data, plan, sizes = prepared.request, prepared.data, prepared.plan, prepared.sizes
    if data is not None and data.fallback is not None:
        screen.rule("[bold yellow]NOT THE DATA YOU ASKED FOR[/]")
        screen.print(data.fallback, style="yellow", markup=False)
        screen.rule()
    document = plan.document
    lines = [
        f"{document.title} ({request.preset_name})",
        *([] if document.data is None else [f"data       {_data(document.data)}"]),
        f"model      {document.model.name}, {document.model.parameters:,} parameters",
        f"training   {_training(plan)}",
        *([f"memory     {_memory(plan.subject.memory)}"] if plan.subject.memory else []),
        *([f"budget     {sizes}"] if sizes else []),
        f"trials     {_trials(plan)}",
        f"verdicts   {verdicts.in_words(estimate.detectable_effect(len(plan.configs), plan.most_seeds))}",
        *([f"looks      {verdicts.looks_in_words(plan)}"] if document.protocol.looks else []),
        f"folder     {prepared.folder.path}",
        "optimizers",
        *(f"  {_settings(config)}" for config in request.configs),
        *(f"  skipped: {entry.label}: {entry.skipped}" for entry in document.optimizers if entry.skipped),
        "",
    ]
    for line in lines:
        screen.print(line, markup=False)


def _data(data: Data) -> str:
    validation = f"{data.validation:,} validation" if data.validation else "no validation (all train)"
    return f"{data.name} from {data.source}: {data.train:,} training, {validation} and {data.test:,} test examples"


def _memory(found: Mapping[str, int]) -> str:
    places = [f"{size / 1e9:.1f} GB on the {place}" for place, size in found.items()]
    return f"{' and '.join(places)} at most in the rehearsal, with all that this process has loaded"


def _training(plan: Plan) -> str:
    config = plan.document.config
    threads = text.count(plan.document.threads, "thread")
    seeds = f"seeds {', '.join(map(str, config.seeds))}"
    length = text.count(config.epochs, config.unit.removesuffix("s"))
    place = "on the CPU" if config.device is None else f"on {config.device.name} ({config.device.kind})"
    batches = f"batches of {config.batch_size}, " if config.batch_size else ""
    return f"{length}, {batches}{config.precision}, {place} with {threads}, {seeds}"


def _trials(plan: Plan) -> str:
    """Return how many trials each stage has."""
    evaluated = len(plan.configs)
    counts = {
        "of the search": len(plan.search_trials),
        "evaluations": evaluated * len(plan.seeds),
        "timings": evaluated * plan.timing_rounds,
    }
    return ", ".join(f"{count:,} {stage}" for stage, count in counts.items() if count)


def _settings(config: OptimizerConfig) -> str:
    """Return an optimizer with every hyperparameter that is in force, including defaults, and its schedule.

    Of the options around every rule only those are shown that were given.
    """
    unused = transforms.options().keys() - config.options.keys()
    hidden = EXECUTION_SWITCHES | STORAGE_OPTIONS | unused
    values = {key: value for key, value in config.origin.resolved(config.options).items() if key not in hidden}
    shown = [f"{key}={value}" for key, value in values.items() if value is not None and value is not False]
    return f"{config.label}: {', '.join([*shown, f'schedule={schedules.read(config.schedule).in_full}'])}"
