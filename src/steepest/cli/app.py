"""The commands and their arguments."""

from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from steepest.cli import advising, bench, listing, lr_range, planning, racing, run_study, run_suite, tracing, upkeep
from steepest.cli import explaining as explain_command
from steepest.cli import replicate as replication
from steepest.landscapes import explaining
from steepest.landscapes.tracing import BUDGET, RATES
from steepest.study import advice, workloads
from steepest.study.optimizers.schedules import SHAPES
from steepest.study.planning import suites
from steepest.study.planning.budget import Budget, Given
from steepest.study.planning.request import Request
from steepest.study.planning.search import read_spaces
from steepest.study.running.preparation import Arguments
from steepest.study.running.suite_preparation import SuiteArguments
from steepest.study.running.worker_limits import WorkerLimits

app = typer.Typer(
    name="steepest",
    help="Readable optimizers for PyTorch, and studies that compare them fairly.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Get the data that workloads need.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(bench.app, name="bench")

WorkloadName = Annotated[str, typer.Argument(metavar="WORKLOAD", help="What to train: see `steepest list workloads`.")]
WorkloadNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="WORKLOAD...", help="What to train, one or several: see `steepest list workloads`."),
]
SuiteName = Annotated[
    str | None, typer.Option("--suite", metavar="NAME", help="A list of workloads: see `steepest list suites`.")
]
Optimizers = Annotated[
    list[str] | None,
    typer.Option(
        "--optimizer",
        "-o",
        metavar="NAME[key=value,...]",
        help="An optimizer, perhaps with options and a schedule of its own (adamw[schedule=wsd,warmup=100]); NAME, "
        "MODULE:NAME or FILE.py:NAME; may be given several times. Default: all of the workload's.",
    ),
]
OptimizersOrUsual = Annotated[
    list[str] | None,
    typer.Option(
        "--optimizer",
        "-o",
        metavar="NAME[key=value,...]",
        help="An optimizer, perhaps with options; NAME, MODULE:NAME or FILE.py:NAME; may be given several times. "
        f"Default: {', '.join(tracing.USUAL)}; all of a workload's.",
    ),
]
PresetName = Annotated[
    str | None, typer.Option(metavar="smoke|quick|full", help="The size of the study. Default: quick.")
]
Epochs = Annotated[int | None, typer.Option(metavar="N", help="Epochs, instead of the preset's.")]
Steps = Annotated[
    int | None, typer.Option(metavar="N", help="Steps of an experiment whose loop counts steps, instead of its own.")
]
Seeds = Annotated[int | None, typer.Option(metavar="N", help="Number of seeds, instead of the preset's.")]
Trials = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Search trials of every optimizer, a power of two; 0 runs the settings as they are."
    ),
]
TuningSeeds = Annotated[
    int | None, typer.Option(metavar="N", help="Seeds on which every point of the search is tried. Default: 1.")
]
SeedOffset = Annotated[
    int, typer.Option("--seed-offset", metavar="N", help="The first evaluation seed: N, N+1, ... Default: 0.")
]
SearchSeed = Annotated[
    int,
    typer.Option("--search-seed", metavar="N", help="Another draw of the search: other points and tuning seeds."),
]
MoreSeeds = Annotated[
    int | None,
    typer.Option(
        "--more-seeds",
        metavar="N",
        help="Look after every --seeds seeds, and add as many while a comparison is undecided, up to N seeds.",
    ),
]
MatchKind = Annotated[
    str,
    typer.Option(
        "--match",
        metavar="steps|seconds|evaluations",
        help="What is equal where optimizers are compared: steps, training seconds or gradient evaluations.",
    ),
]
TimingRounds = Annotated[int, typer.Option(metavar="N", help="How often the seconds of a step are taken; 0: never.")]
Sampler = Annotated[
    str | None,
    typer.Option(metavar="sobol|random", help="How the points of the search are drawn. Default: sobol."),
]
Searched = Annotated[
    str | None,
    typer.Option("--search", metavar="NAMES", help="Hyperparameters to search: lr,betas or all. Default: lr."),
]
SpaceFile = Annotated[
    Path | None,
    typer.Option(
        "--space",
        metavar="FILE.toml",
        help="Search ranges of your own, instead of --search for the optimizers in it: docs/protocol.md.",
    ),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[key=value,...]",
        help=f"{', '.join(SHAPES)}; options such as cosine[warmup=100]. Default: cosine with warm-up in tuned studies.",
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(metavar="LABEL", help="The optimizer that all others are compared with. Default: the first."),
]
Precision = Annotated[
    str, typer.Option(metavar="fp32|bf16|fp16", help="bf16 and fp16 are autocast for the forward pass.")
]
DeviceName = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="cpu|cuda|cuda:1|mps|auto",
        help="The device of trials. Devices other than the CPU are untested.",
    ),
]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Let torch use deterministic algorithms only, which may be slower.")
]
Behaviour = Annotated[
    bool,
    typer.Option(
        "--behaviour/--no-behaviour",
        help="Sample how the optimizers move: norms of gradients and updates, and angles, by layer.",
    ),
]
Sharpness = Annotated[
    bool,
    typer.Option(
        "--sharpness", help="Measure the loss's largest curvature at every evaluation, by power iterations. Costs time."
    ),
]
AllTrain = Annotated[
    bool, typer.Option("--all-train", help="Train on all training examples; then there is no validation set.")
]
PlanOnly = Annotated[
    bool, typer.Option("--plan-only", help="Print what would run, its time and disk on this machine, and stop.")
]
Extend = Annotated[
    bool,
    typer.Option("--extend", help="Double the search of a finished study, beyond the edge where a best rate lies."),
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Study folder. Default: studies/WORKLOAD-PRESET.")]
Engine = Annotated[
    str, typer.Option("--on", metavar="processes|ray|slurm", help="What runs the trials: docs/clusters.md.")
]
GpusPerTrial = Annotated[
    float, typer.Option("--gpus-per-trial", metavar="N", help="GPUs of a trial on a cluster; 0.5 shares one, with Ray.")
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", metavar="ADDRESS", help="A running cluster of Ray. Default: a local one.")
]
Slurm = Annotated[
    str,
    typer.Option("--slurm", metavar="KEY=VALUE,...", help="Options for Slurm: slurm_partition=gpu,timeout_min=600."),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", metavar="N", help="Trials that run at once, each in a process of its own.")
]
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", help="Threads of every trial. Default: the folder's own, or the cores divided by jobs."),
]
TimeBudget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Choose trials and seeds that fit (90s, 30m, 2h, 1d), and start none later. Given ones stay as they are.",
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", metavar="MINUTES", help="A longer trial is ended and counts as worst. Default: none."),
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder that holds the data files.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"steepest {metadata.version('steepest')}")
        raise typer.Exit


@app.callback()
def _steepest(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def study(
    names: WorkloadNames = None,
    suite: SuiteName = None,
    optimizers: Optimizers = None,
    preset: PresetName = None,
    epochs: Epochs = None,
    steps: Steps = None,
    seeds: Seeds = None,
    trials: Trials = None,
    tuning_seeds: TuningSeeds = None,
    timing_rounds: TimingRounds = 3,
    match: MatchKind = "steps",
    sampler: Sampler = None,
    searched: Searched = None,
    space: SpaceFile = None,
    schedule: Schedule = None,
    reference: Reference = None,
    precision: Precision = "fp32",
    device: DeviceName = "cpu",
    deterministic: Deterministic = False,
    behaviour: Behaviour = True,
    sharpness: Sharpness = False,
    all_train: AllTrain = False,
    out: Out = None,
    data_dir: DataDir = None,
    plan_only: PlanOnly = False,
    extend: Extend = False,
    jobs: Jobs = None,
    on: Engine = "processes",
    gpus_per_trial: GpusPerTrial = 0,
    ray_address: RayAddress = None,
    slurm: Slurm = "",
    threads: Threads = None,
    time_limit: TimeLimit = None,
    seed_offset: SeedOffset = 0,
    search_seed: SearchSeed = 0,
    more_seeds: MoreSeeds = None,
    budget: TimeBudget = None,
) -> None:
    """Train a workload with several optimizers and write a study folder with a report.

    WORKLOAD is a name or a file of yours, FILE.py. A tuned study tries the same number of points for every optimizer,
    then runs each one's best on fresh seeds. The same command again resumes where it stopped; further optimizers or
    seeds are added to the same folder. Several workloads, or a suite, have a study each, in one folder, with equal
    optimizers, seeds and trials, and a comparison across them.
    """
    asked = suites.asked(tuple(map(workloads.find, names or ())), suite)
    request = partial(
        Request,
        epochs_wanted=epochs,
        steps_wanted=steps,
        tuning_seeds_wanted=tuning_seeds,
        timing_rounds=timing_rounds,
        match=match,
        sampler_wanted=sampler,
        searched_wanted=tuple(searched.split(",")) if searched else (),
        spaces=read_spaces(space) if space else {},
        schedule_wanted=schedule,
        reference_wanted=reference,
        precision=precision,
        device_wanted=device,
        deterministic=deterministic,
        behaviour=behaviour,
        sharpness=sharpness,
        all_train=all_train,
        threads=threads,
        seed_offset=seed_offset,
        search_seed=search_seed,
        more_seeds_wanted=more_seeds,
    )
    requests = suites.requests(
        asked, request, preset=preset, optimizers=tuple(optimizers or ()), seeds=seeds, trials=trials
    )
    limits = WorkerLimits(jobs, time_limit, on, gpus_per_trial, ray_address, slurm)
    time = Budget.read(budget) if budget else None
    if len(requests) > 1:
        several = SuiteArguments(asked.name, requests, Given(trials, seeds), out, data_dir, limits, extend, time)
        if plan_only:
            run_suite.show(several)
            return
        raise typer.Exit(run_suite.study(several))
    arguments = Arguments(requests[0], out, data_dir, limits, extend, time)
    if plan_only:
        planning.show(arguments)
        return
    raise typer.Exit(run_study.study(arguments))


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...",
            help="A study folder, or several to compare.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the comparison of several. Default: studies/comparison."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write the page anew while the study runs, until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds between two looks of --watch.")] = 10.0,
) -> None:
    """Write the report of a study folder anew from its stored records, or compare several studies' optimizers.

    The folder of a study of several workloads stands for all of its studies; their comparison is written into it.
    """
    if watch:
        upkeep.watch(folders, every)
    else:
        upkeep.report(folders, out)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.")],
    csv: Annotated[bool, typer.Option("--csv", help="Tables, curves and losses. The default.")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="The same, for pandas and its like.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The report's tables.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="The report's tables, for booktabs.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Events, a run for every trial.")] = False,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="An SQLite file, a run for every trial.")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Offline, a run for every trial.")] = False,
    own_loggers: Annotated[
        list[str] | None,
        typer.Option(
            "--logger", metavar="FILE.py:NAME", help="A logger of yours, or MODULE:NAME; may be given several times."
        ),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="For TensorBoard, MLflow, W&B and loggers: the search's trials too.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Export again whenever records have changed, until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds between two looks of --watch.")] = 10.0,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to. Default: DIR/export.")] = None,
) -> None:
    """Write a study's numbers for other programs: tables, a row for every evaluation and step, curves in other tools.

    Runs of TensorBoard, MLflow and W&B are brought up to date: the same command again writes those trials anew whose
    records have changed. It may run while the study does, and nothing is sent anywhere.
    """
    formats = {"csv": csv, "parquet": parquet, "markdown": markdown, "latex": latex}
    loggers = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}
    asked = upkeep.Export(
        folder,
        [name for name, is_asked in formats.items() if is_asked],
        [*(name for name, is_asked in loggers.items() if is_asked), *(own_loggers or ())],
        out or folder / "export",
        search,
    )
    if watch:
        upkeep.watch_export(asked, every)
    else:
        upkeep.export(asked)


@app.command()
def rerun(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.")],
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's name, as its record file is called.")],
    data_dir: DataDir = None,
) -> None:
    """Run one stored trial again and say whether every record is equal, bit by bit."""
    raise typer.Exit(upkeep.rerun(folder, trial, data_dir))


@app.command()
def replicate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a finished study, or of several.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the replication. Default: DIR-replication.")
    ] = None,
    data_dir: DataDir = None,
    jobs: Jobs = 1,
    time_limit: TimeLimit = None,
) -> None:
    """Run a study's plan again on fresh seeds and a fresh draw of the search, and say whether the verdicts agree.

    The folder of a study of several workloads stands for all of its studies.
    """
    raise typer.Exit(replication.replicate(folder, out, data_dir, WorkerLimits(jobs, time_limit)))


@app.command("advise")
def advise_(
    workload: Annotated[
        str | None, typer.Argument(metavar="WORKLOAD", help="The task: see `steepest list workloads`.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"What the network is made of: {', '.join(advice.KINDS)}.")
    ] = None,
    preset: Annotated[str, typer.Option(metavar="smoke|quick|full", help="The size of the workload.")] = "quick",
    priority: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(advice.PRIORITIES),
            help=f"What matters most. Default: {next(iter(advice.PRIORITIES))}.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The time that the comparison may take (90s, 30m, 2h, 1d). Default: none."),
    ] = None,
) -> None:
    """Name two optimizers to compare on a task, why, what our studies say of them, and the command that compares them.

    The kind of the network is read off the task's model; --kind says it for a loop of your own, or without a task.
    With neither, in a terminal, it asks.
    """
    declared = None if workload is None else workloads.find(workload)
    advising.run(advising.Asked(declared, kind, preset, priority, budget))


@app.command("lr-range")
def lr_range_(
    workload: WorkloadName,
    optimizers: Optimizers = None,
    preset: Annotated[str, typer.Option(metavar="smoke|quick|full", help="The size of the workload.")] = "quick",
    low: Annotated[
        float | None, typer.Option(metavar="RATE", help="Lowest rate. Default: where the optimizer's range begins.")
    ] = None,
    high: Annotated[
        float | None, typer.Option(metavar="RATE", help="Highest rate. Default: ten times where its range ends.")
    ] = None,
    steps: Annotated[int, typer.Option(metavar="N", help="Number of rates, one step each.")] = 100,
    repeats: Annotated[int, typer.Option(metavar="N", help="Repeats, each with an order of its own.")] = 3,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the weights and of the first repeat.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the curves; one file per optimizer if there are several."),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Find a learning rate in a few steps: the rate grows from step to step, and the loss falls, then diverges.

    Prints for every optimizer a rate to start from, its range over the repeats, and where training diverged.
    """
    declared = workloads.find(workload)
    wanted = tuple(optimizers or ())
    lr_range.run(lr_range.Arguments(declared, wanted, preset, low, high, steps, repeats, seed, plot, data_dir, as_json))


@app.command()
def race(
    where: Annotated[
        str,
        typer.Argument(
            metavar="SURFACE|WORKLOAD",
            help="A surface (ravine[condition=100], FILE.py:NAME), or what to train: see `steepest list surfaces` and "
            "`steepest list workloads`.",
        ),
    ],
    optimizers: OptimizersOrUsual = None,
    budget: Annotated[
        int | None, typer.Option(metavar="N", help=f"On a surface: gradients of each. Default: {BUDGET}.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="On a surface: a rate for all, instead of a search for each.")
    ] = None,
    rates: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"On a surface: rates that are tried, besides the default. Default: {RATES}."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            metavar="N", help=f"On a surface: gradients that are shown in a second. Default: {racing.SPEED:g}."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="smoke|quick|full", help=f"Of a workload: its size. Default: {racing.PRESET}."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Of a workload: epochs, instead of the preset's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Of a workload that counts steps: steps, instead of its own.")
    ] = None,
    data_dir: DataDir = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the noise, or of the weights and the order.")] = 0,
) -> None:
    """Let optimizers race: a table with sparklines, in which places change.

    On a surface the paths are those of `steepest trace`, with its search of rates. On a workload they are short
    trainings side by side, each with its declared or given rate, and places are compared at equal steps. A race is
    not a study: it has one seed.
    """
    raise typer.Exit(
        racing.run(
            racing.Arguments(
                where=where,
                optimizers=optimizers or (),
                budget=budget,
                lr=lr,
                rates=rates,
                speed=speed,
                preset=preset,
                epochs=epochs,
                steps=steps,
                data_dir=data_dir,
                seed=seed,
            )
        )
    )


@app.command()
def explain(
    optimizer: Annotated[
        str, typer.Argument(metavar="NAME[key=value,...]", help="An optimizer of the library, or FILE.py:NAME.")
    ],
    surface: Annotated[
        str | None,
        typer.Option(
            metavar="SURFACE",
            help=f"The surface: see `steepest list surfaces`. Default: {explaining.SURFACE}, or "
            f"{explaining.OF_MATRICES} for rules that multiply matrices.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(metavar="N", help="Steps to walk through.")] = explaining.STEPS,
    start: Annotated[
        str | None, typer.Option(metavar="X,Y", help="A start of your own. Default: the surface's first.")
    ] = None,
    lr: Annotated[float | None, typer.Option(metavar="RATE", help="A rate, instead of a search.")] = None,
    rates: Annotated[int, typer.Option(metavar="N", help="Rates that are tried, in addition to the default.")] = RATES,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the noise.")] = 0,
    out: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write the steps: .html (with a slider), .txt; may be given several times."),
    ] = None,
) -> None:
    """Walk through a rule step by step: every symbol of its equations with its value, on a surface."""
    explain_command.run(
        optimizer, surface, steps=steps, start=start, lr=lr, rates=rates, seed=seed, out=tuple(out or ())
    )


@app.command()
def trace(
    surface: Annotated[
        str | None,
        typer.Argument(
            metavar="SURFACE",
            help="A surface, perhaps with options (ravine[condition=100]), or a function of yours, FILE.py:NAME: see "
            "`steepest list surfaces`.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="WORKLOAD",
            help="Instead of a surface: real trainings of a workload, a name or my_task.py, in the plane in which "
            "their weights vary most, with the loss around them.",
        ),
    ] = None,
    optimizers: OptimizersOrUsual = None,
    budget: Annotated[
        int | None, typer.Option(metavar="N", help=f"Gradients that every path may take. Default: {BUDGET}.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="A rate for all optimizers, instead of a search for each.")
    ] = None,
    rates: Annotated[
        int | None,
        typer.Option(
            metavar="N", help=f"Rates that are tried, in addition to an optimizer's default. Default: {RATES}."
        ),
    ] = None,
    starts: Annotated[
        int | None, typer.Option(metavar="N", help="How many of the surface's starts. Default: 1.")
    ] = None,
    points: Annotated[
        list[str] | None,
        typer.Option("--start", metavar="X,Y", help="A start of your own; may be given several times."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="smoke|quick|full", help=f"With --model: its size. Default: {tracing.PRESET}."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="With --model: epochs, instead of the preset's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="With a --model that counts steps: steps, instead of its own.")
    ] = None,
    data_dir: DataDir = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of the noise and of drawn starts, or of weights and order.")
    ] = 0,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Draw the paths: .html (a page to play), .png, .svg, .pdf, .gif, .mp4; may be given several times.",
        ),
    ] = None,
    basins: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw where each optimizer ends from every start of a grid."),
    ] = None,
    speed_map: Annotated[
        Path | None,
        typer.Option(
            "--speed-map", metavar="FILE", help="Draw how many gradients it takes, for every rate and --over NAME."
        ),
    ] = None,
    over: Annotated[
        str,
        typer.Option(metavar="NAME", help="An option of the optimizers (momentum) or of the surface (condition)."),
    ] = "momentum",
    surfaces: Annotated[bool, typer.Option("--list", help="List the surfaces and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Let optimizers walk on a surface: a table of where they end, and pictures of their paths.

    Every optimizer has the same start and the same budget of gradients, and the best of equally many rates. With
    --model they are trainings with one seed, and rates as declared or given.
    """
    if surfaces:
        listing.list_names("surfaces", as_json)
        return
    tracing.run(
        tracing.Arguments(
            surface=surface,
            model=model,
            optimizers=optimizers or (),
            budget=budget,
            lr=lr,
            rates=rates,
            starts=starts,
            points=tuple(points or ()),
            preset=preset,
            epochs=epochs,
            steps=steps,
            data_dir=data_dir,
            seed=seed,
            out=out or (),
            basins=basins,
            speed_map=speed_map,
            over=over,
            as_json=as_json,
        )
    )


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(metavar="optimizers|workloads|suites|surfaces", help="What to list.")],
    as_json: Json = False,
) -> None:
    """List the optimizers, the workloads, the suites of workloads, or the surfaces."""
    listing.list_names(kind, as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An optimizer: see `steepest list optimizers`.")],
    latex: Annotated[bool, typer.Option("--latex", help="Print the equations as LaTeX.")] = False,
) -> None:
    """Show an optimizer: equations, hyperparameters, state, citation, differences, source."""
    listing.show(name, latex)


@data_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set: fashion-mnist.")],
    data_dir: DataDir = None,
) -> None:
    """Download a data set, check it, and say where it is."""
    upkeep.fetch(name, data_dir)


@app.command()
def doctor() -> None:
    """Check the installation: versions, threads, compiler, data, disk."""
    raise typer.Exit(upkeep.doctor())
