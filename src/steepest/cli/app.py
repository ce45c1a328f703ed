"""The commands and their arguments."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from steepest.cli import commands

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
    workload: Annotated[str, typer.Argument(metavar="WORKLOAD", help="What to train: see `steepest list workloads`.")],
    optimizers: Annotated[
        list[str] | None,
        typer.Option(
            "--optimizer",
            "-o",
            metavar="NAME[key=value,...]",
            help="An optimizer, perhaps with options; may be given several times. Default: all of the workload's.",
        ),
    ] = None,
    preset: Annotated[str, typer.Option(metavar="smoke|quick|full", help="The size of the study.")] = "quick",
    epochs: Annotated[int | None, typer.Option(help="Epochs, instead of the preset's.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds, instead of the preset's: 0, 1, ...")] = None,
    precision: Annotated[str, typer.Option(metavar="fp32|bf16", help="bf16 is autocast for the forward pass.")] = "fp32",
    all_train: Annotated[
        bool, typer.Option("--all-train", help="Train on all training examples; there is no validation set then.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Study folder. Default: studies/WORKLOAD-PRESET.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Train a workload with several optimizers and write a study folder with a report.

    The same command again skips what is done; further optimizers or seeds are added to the same folder.
    """
    request = commands.Request(
        workload=commands.find_workload(workload),
        preset_name=preset,
        optimizers=tuple(optimizers or ()),
        epochs_wanted=epochs,
        seeds_wanted=seeds,
        precision=precision,
        all_train=all_train,
    )
    raise typer.Exit(commands.study(request, out, data_dir, sys.argv[1:]))


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.")]) -> None:
    """Write the report of a study folder anew from its stored records."""
    commands.report(folder)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(metavar="optimizers|workloads", help="What to list.")],
    as_json: Json = False,
) -> None:
    """List the optimizers or the workloads."""
    commands.list_names(kind, as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An optimizer: see `steepest list optimizers`.")],
    latex: Annotated[bool, typer.Option("--latex", help="Print the equations as LaTeX.")] = False,
) -> None:
    """Show an optimizer: equations, hyperparameters, state, citation, differences, source."""
    commands.show(name, latex)


@data_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set: fashion-mnist.")],
    data_dir: DataDir = None,
) -> None:
    """Download a data set, check it, and say where it is."""
    commands.fetch(name, data_dir)


@app.command()
def doctor() -> None:
    """Check the installation: versions, threads, compiler, data, disk."""
    raise typer.Exit(commands.doctor())
