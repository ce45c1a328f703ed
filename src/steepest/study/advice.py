"""Advice on two optimizers to compare on a task, by the kind of its network, with the evidence there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from torch import nn

from steepest.study.declaration import Declaration
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import OptimizerConfig, parse_config
from steepest.study.suggest import choices


@dataclass(frozen=True)
class Evidence:
    """A stored study with equal tuning.

    Attributes:
        page: the page that shows the study, with its folder of tables next to it.
        setting: the task, its length and its seeds, in words.
        reference: the optimizer that the others were compared with.
        metric: the metric that decides.
        verdicts: by optimizer its verdict and by how much it is better, as the page's table of verdicts has them.
    """

    page: str
    setting: str
    metric: str
    reference: str
    verdicts: Mapping[str, tuple[str, float]]

    def on(self, name: str) -> str:
        """Return what the study says of an optimizer; empty if it did not take part."""
        if name == self.reference:
            return f"the reference on {self.setting} ({self.page})"
        if name not in self.verdicts:
            return ""
        verdict, difference = self.verdicts[name]
        apart = f"{abs(difference):.3f} of {self.metric} from {self.reference}"
        return f"{verdict}, {apart}, on {self.setting} ({self.page})"


PERCEPTRON: Final = Evidence(
    "docs/mlp-study.md",
    "a perceptron of digits, 720 steps, 10 seeds",
    "test accuracy",
    "SGD[momentum=0.9]",
    {"AdamW": ("equivalent", 0.0), "Muon": ("better", 0.0106), "Prodigy": ("worse", -0.0142)},
)
CONVEX: Final = Evidence(
    "docs/convex-study.md",
    "logistic regression on Fashion-MNIST, 1,410 steps, 10 seeds",
    "test loss",
    "SGD[momentum=0.9]",
    {"Adagrad": ("equivalent", -0.00072), "AdamW": ("equivalent", -0.00067), "Prodigy": ("worse", -0.00291)},
)
EMBEDDINGS: Final = Evidence(
    "docs/factorisation-study.md",
    "a matrix factorisation, 7,040 steps, 10 seeds",
    "test squared error",
    "SGD[momentum=0.9]",
    {"Adagrad": ("better", 0.00264), "AdamW": ("undecided", 0.00245), "Prodigy": ("undecided", 0.00246)},
)
CONVOLUTIONS: Final = Evidence(
    "docs/convolution-study.md",
    "a convolutional network on 1,200 images of clothes, 76 steps, 10 seeds",
    "test accuracy",
    "SGD[momentum=0.9]",
    {"NAG": ("better", 0.022), "AdamW": ("better", 0.0071), "Prodigy": ("better", 0.0231)},
)
TRANSFORMER: Final = Evidence(
    "docs/transformer-study.md",
    "a character transformer, 512 steps, 8 seeds",
    "test bits per character",
    "AdamW",
    {"Muon": ("better", 0.137), "Prodigy": ("worse", -0.386)},
)


@dataclass(frozen=True)
class Kind:
    """A kind of network, with the two optimizers to compare first.

    Attributes:
        words: how to tell the kind.
        candidates: by recipe the reason to try it.
        workload: a workload of the library with such layers, on which the candidates run.
        options: options that every optimizer gets on this kind, as a recipe has them.
        evidence: a stored study of the kind, if there is one.
    """

    words: str
    candidates: Mapping[str, str]
    workload: str
    options: str = ""
    evidence: Evidence | None = None


KINDS: Final[Mapping[str, Kind]] = {
    "transformer": Kind(
        "attention, or embeddings with layer norms",
        {
            "adamw": "the common choice for transformers, and a strong baseline once its rate and decay are tuned",
            "muon": "for its hidden matrices; embeddings, head and vectors go to AdamW",
        },
        "char-transformer",
        evidence=TRANSFORMER,
    ),
    "convolutional": Kind(
        "convolutions",
        {
            "nag": "Nesterov's momentum, the common choice with batch normalisation, if its rate is tuned",
            "adamw": "asks for less tuning, and trains what SGD does not",
        },
        "digits",
        evidence=CONVOLUTIONS,
    ),
    "recurrent": Kind(
        "recurrent layers",
        {
            "adamw": "gradients through time grow, so they are clipped",
            "rmsprop": "the older choice for recurrent networks",
        },
        "char-lstm",
        options="max_norm=1.0",
    ),
    "embeddings": Kind(
        "embeddings and no attention",
        {
            "adamw": "a rate for each coordinate, that follows its gradients",
            "adagrad": "a rate for each coordinate that never forgets: for features that are rare",
        },
        "matrix-factorisation-dense",
        evidence=EMBEDDINGS,
    ),
    "perceptron": Kind(
        "several linear layers and nothing else",
        {
            "adamw": "asks for little tuning",
            "muon": "for its hidden matrices; the rest goes to AdamW",
        },
        "digits-mlp",
        evidence=PERCEPTRON,
    ),
    "convex": Kind(
        "one linear layer",
        {
            "sgd[momentum=0.9]": "a convex problem needs no more than a good rate",
            "adagrad": "for features of very different sizes",
        },
        "logistic-regression",
        evidence=CONVEX,
    ),
}
"""Kinds of networks; a model is of the first one that fits it."""


@dataclass(frozen=True)
class Priority:
    """Advice under one aim of the user's.

    Attributes:
        words: the aim in words.
        candidates: from a kind of network to the two optimizers to compare, by recipe the reason.
        trials: points of the search for each.
    """

    words: str
    candidates: Callable[[Kind], Mapping[str, str]]
    trials: int = Declaration.trials


def _with_little_tuning(_: Kind) -> Mapping[str, str]:
    return {
        "adamw": "asks for little tuning: its default and four more rates are tried",
        "prodigy": "finds its step size itself, if training is long enough for that",
    }


def _with_little_memory(kind: Kind) -> Mapping[str, str]:
    recipe, reason = next(iter(kind.candidates.items()))
    return {
        with_options(recipe, "state_dtype=int8"): f"{reason}; with its state in eight bits, a quarter of the bytes",
        "adafactor": "keeps means of rows and columns in place of a second moment: next to no state",
    }


PRIORITIES: Final[Mapping[str, Priority]] = {
    "result": Priority("the result at the end, with time to tune", lambda kind: kind.candidates),
    "tuning": Priority("little tuning", _with_little_tuning, trials=4),
    "memory": Priority("memory", _with_little_memory),
}


def with_options(recipe: str, options: str) -> str:
    """Return a recipe with further options.

    >>> with_options("sgd", "nesterov=true"), with_options("sgd[momentum=0.9]", "nesterov=true")
    ('sgd[nesterov=true]', 'sgd[momentum=0.9,nesterov=true]')
    """
    if not options:
        return recipe
    return f"{recipe[:-1]},{options}]" if recipe.endswith("]") else f"{recipe}[{options}]"


def kind_of(model: nn.Module) -> str:
    """Return the kind of a model, by its modules."""
    modules = list(model.modules())
    has_embeddings = _has(modules, nn.Embedding, nn.EmbeddingBag)
    if _has(modules, nn.MultiheadAttention) or (has_embeddings and _has(modules, nn.LayerNorm, nn.RMSNorm)):
        return "transformer"
    if _has(modules, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return "convolutional"
    if _has(modules, nn.RNNBase, nn.RNNCellBase):
        return "recurrent"
    if has_embeddings:
        return "embeddings"
    return "perceptron" if sum(isinstance(module, nn.Linear) for module in modules) > 1 else "convex"


def _has(modules: list[nn.Module], *types: type[nn.Module]) -> bool:
    return any(isinstance(module, types) for module in modules)


@dataclass(frozen=True)
class Candidate:
    """An optimizer to compare: its recipe, the reason, and what a study says of it (empty without one)."""

    recipe: str
    config: OptimizerConfig
    reason: str
    evidence: str


def candidates(name: str, priority: str = "result") -> list[Candidate]:
    """Return the optimizers to compare first on networks of a kind.

    Args:
        name: the kind, a name of `KINDS`.
        priority: what matters most, a name of `PRIORITIES`.

    Raises:
        UsageError: the kind or the priority does not exist.
    """
    if name not in KINDS:
        raise UsageError(choices("kind", name, KINDS))
    if priority not in PRIORITIES:
        raise UsageError(choices("priority", priority, PRIORITIES))
    kind = KINDS[name]
    found = []
    for bare, reason in PRIORITIES[priority].candidates(kind).items():
        recipe = with_options(bare, kind.options)
        config = parse_config(recipe, {})
        found.append(Candidate(recipe, config, reason, kind.evidence.on(config.label) if kind.evidence else ""))
    return found
