"""Several workloads in one study: suites by name, and requests that give all of them equal terms."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from steepest.study import workloads
from steepest.study.declaration import Declaration, Declared
from steepest.study.errors import UsageError
from steepest.study.planning.request import Request
from steepest.study.suggest import choices

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Suite:
    """A list of workloads for one study. Optimizers of dense gradients can run on all of them."""

    title: str
    workloads: tuple[str, ...]


SUITES: Final[Mapping[str, Suite]] = {
    "small": Suite(
        "Five small ones: a perceptron, a CNN, a convex problem, a matrix factorisation, a deep autoencoder",
        ("digits-mlp", "digits", "logistic-regression", "matrix-factorisation-dense", "autoencoder"),
    ),
    "vision": Suite(
        "Images: convolutional networks, a residual network, a deep autoencoder",
        ("digits", "fashion-mnist", "resnet8", "autoencoder"),
    ),
    "text": Suite("Text: a recurrent network and a transformer", ("char-lstm", "char-transformer")),
    "batch-sizes": Suite(
        "One network on full batches, batches of 256 and batches of two",
        ("fashion-mnist-full-batch", "fashion-mnist-batch-256", "fashion-mnist-batch-2"),
    ),
}
"""The suites, by the name that --suite takes."""

MOST_IN_A_NAME: Final = 4


@dataclass(frozen=True)
class Asked:
    """The workloads of a study, and a name for all of them together."""

    name: str
    declared: tuple[Declared, ...]


def asked(given: Sequence[Declared], suite: str | None = None) -> Asked:
    """Return the workloads of a suite, then the given ones.

    Raises:
        UsageError: there is none, the suite is unknown, or a workload is asked for twice.
    """
    if suite is not None and suite.lower() not in SUITES:
        raise UsageError(choices("suite", suite, SUITES))
    members = SUITES[suite.lower()].workloads if suite else ()
    if not members and not given:
        raise UsageError(
            "missing WORKLOAD: name one, several, or a suite; see `steepest list workloads` and `list suites`"
        )
    for declared in given:
        if declared.source in members:
            raise UsageError(f"{declared.source} is one of the suite {suite}, so leave it out")
    _check_given_once([declared.source for declared in given])
    own = [declared.name for declared in given]
    name = "-".join([suite.lower(), *own] if suite else own)
    if len(own) > MOST_IN_A_NAME:
        name = f"{suite.lower() if suite else own[0]}-and-{len(own) - (not suite)}-more"
    return Asked(name, (*map(workloads.find, members), *given))


def requests(
    wanted: Asked,
    make: Callable[..., Request],
    *,
    preset: str | None,
    optimizers: tuple[str, ...],
    seeds: int | None,
    trials: int | None,
) -> tuple[Request, ...]:
    """Return a request for every workload: equal optimizers, seeds and search trials for all if there are several.

    Several workloads take the optimizers that most of them have, and the largest of their own numbers.

    Args:
        wanted: the workloads.
        make: makes the request of a workload, given `declared` and the four choices that follow.
        preset, optimizers, seeds, trials: what was asked for; None or nothing for the usual.
    """
    by_source = {declared.source: declared for declared in wanted.declared}
    if len(by_source) > 1:
        made = each(by_source, lambda declared: declared(preset or "quick"))
        optimizers = optimizers or _usual(made)
        seeds = max(one.seeds for one in made) if seeds is None else seeds
        trials = max(one.trials for one in made) if trials is None else trials
    return tuple(
        each(
            by_source,
            lambda declared: make(
                declared=declared, preset_wanted=preset, optimizers=optimizers, seeds_wanted=seeds, trials_wanted=trials
            ),
        )
    )


def each(ones: Mapping[str, S], do: Callable[[S], T]) -> list[T]:
    """Do something for every workload and return the results. Raise UsageError with the mistakes of all of them.

    `ones` stand under their sources. A mistake that is the same for all is told once, in its own words.
    """
    done: list[T] = []
    mistakes: dict[str, list[str]] = {}
    for source, one in ones.items():
        try:
            done.append(do(one))
        except UsageError as error:
            mistakes.setdefault(str(error), []).append(source)
    if mistakes:
        raise UsageError(_all(mistakes, len(ones)))
    return done


def subfolders(declared: Iterable[Declared]) -> list[str]:
    """Return a folder name for every workload: its name, or its file's and its own where several share a name."""
    ones = list(declared)
    names = [one.name for one in ones]
    return [one.name if names.count(one.name) == 1 else slug(one.source) for one in ones]


def _usual(made: Sequence[Declaration]) -> tuple[str, ...]:
    names = dict.fromkeys(name for one in made for name in one.settings)
    usual = tuple(name for name in names if 2 * sum(name in one.settings for one in made) > len(made))
    if not usual:
        raise UsageError("most of these workloads have no usual optimizer in common; name some: -o adamw -o sgd")
    return usual


def _all(mistakes: Mapping[str, Sequence[str]], among: int) -> str:
    """Return the mistakes, each with the workloads that it concerns, unless these are all."""
    told = [
        message if len(sources) == among else f"{', '.join(sources)}: {message}"
        for message, sources in mistakes.items()
    ]
    return told[0] if len(told) == 1 else "".join(f"\n  {line}" for line in told)


def _check_given_once(sources: Sequence[str]) -> None:
    twice = [source for source in dict.fromkeys(sources) if sources.count(source) > 1]
    if twice:
        raise UsageError(f"{', '.join(twice)} is given twice; a comparison across workloads counts each once")


def slug(source: str) -> str:
    """Return a source as the name of a folder.

    >>> slug("tasks/train.py:finetune")
    'tasks-train-finetune'
    """
    return re.sub(r"[^\w.]+", "-", source.replace(".py:", "-")).strip("-.")
