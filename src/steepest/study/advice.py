"""Advice on two optimizers to compare on a task, by the kind of its network, with the evidence there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import nn

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
    {"AdamW": ("equivalent", 0.0), "Muon": ("better", 0.0106)},
)
CONVEX: Final = Evidence(
    "docs/convex-study.md",
    "logistic regression on Fashion-MNIST, 1,410 steps, 10 seeds",
    "test loss",
    "SGD[momentum=0.9]",
    {"Adagrad": ("equivalent", -0.00072)},
)
TRANSFORMER: Final = Evidence(
    "docs/transformer-study.md",
    "a character transformer, 512 steps, 8 seeds",
    "test bits per character",
    "AdamW",
    {"Muon": ("better", 0.137)},
)


@dataclass(frozen=True)
class Kind:
    """A kind of network, with the two optimizers to compare first.

    Attributes:
        words: how to tell the kind.
        candidates: by recipe the reason to try it.
        evidence: a stored study of the kind, if there is one.
    """

    words: str
    candidates: Mapping[str, str]
    evidence: Evidence | None = None


KINDS: Final[Mapping[str, Kind]] = {
    "transformer": Kind(
        "attention, or embeddings with layer norms",
        {
            "adamw": "the common choice for transformers, and a strong baseline once its rate and decay are tuned",
            "muon": "for its hidden matrices; embeddings, head and vectors go to AdamW",
        },
        TRANSFORMER,
    ),
    "convolutional": Kind(
        "convolutions",
        {
            "sgd[momentum=0.9,nesterov=true]": "the common choice with batch normalisation, if its rate is tuned",
            "adamw": "asks for less tuning, and trains what SGD does not",
        },
    ),
    "recurrent": Kind(
        "recurrent layers",
        {
            "adamw[max_norm=1.0]": "gradients through time grow, so they are clipped",
            "rmsprop[max_norm=1.0]": "the older choice for recurrent networks",
        },
    ),
    "embeddings": Kind(
        "embeddings and no attention",
        {
            "adamw": "a rate for each coordinate, that follows its gradients",
            "adagrad": "a rate for each coordinate that never forgets: for features that are rare",
        },
    ),
    "perceptron": Kind(
        "several linear layers and nothing else",
        {
            "adamw": "asks for little tuning",
            "muon": "for its hidden matrices; the rest goes to AdamW",
        },
        PERCEPTRON,
    ),
    "convex": Kind(
        "one linear layer",
        {
            "sgd[momentum=0.9]": "a convex problem needs no more than a good rate",
            "adagrad": "for features of very different sizes",
        },
        CONVEX,
    ),
}
"""Kinds of networks; a model is of the first one that fits it."""


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


def candidates(name: str) -> list[Candidate]:
    """Return the optimizers to compare first on networks of a kind.

    Raises:
        UsageError: the kind does not exist.
    """
    if name not in KINDS:
        raise UsageError(choices("kind", name, KINDS))
    kind = KINDS[name]
    found = []
    for recipe, reason in kind.candidates.items():
        config = parse_config(recipe, {})
        found.append(Candidate(recipe, config, reason, kind.evidence.on(config.label) if kind.evidence else ""))
    return found
