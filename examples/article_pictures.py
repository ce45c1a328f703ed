"""Pictures that articles on optimizers show, each made by one function through steepest.landscapes.

python examples/article_pictures.py FOLDER
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import steepest
from steepest import fields
from steepest.fields import State
from steepest.landscapes import trace
from steepest.rule import Rule
from steepest.vocabulary import lerp, sqrt


def momentum_in_a_ravine() -> Figure:
    """Across the ravine gradients cancel in the momentum's average; along it they add up."""
    return trace("ravine", ["sgd[lr=0.018]", "momentum[lr=0.004]"], budget=60).figure()


def nag_looks_ahead() -> Figure:
    """NAG takes the gradient where the momentum would carry it, and turns back before it overshoots."""
    rules = ["momentum[lr=0.004]", "nag[lr=0.004,true_lookahead=true]"]
    traced = trace("ravine", rules, budget=14, window=((-2.0, -0.2), (-1.3, 0.5)))
    figure = traced.figure()
    axes, points = figure.axes[0], traced.paths[1].plane
    ahead = points[1:] + 0.9 * np.diff(points, axis=0)
    for here, there in zip(points[1:], ahead, strict=True):
        axes.plot(*zip(here, there, strict=True), color="black", linewidth=0.8, linestyle=":", zorder=4)
    axes.plot(*ahead.T, "o", color="white", markeredgecolor="black", markersize=4, label="point ahead", zorder=5)
    axes.legend(loc="upper right")
    return figure


def adagrads_shrinking_rate() -> Figure:
    """On a slope, where the gradient stays, AdaGrad's steps shrink without end, RMSProp's only at first."""

    def slope(p):
        return 3 * p[0] + p[1]

    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for path in trace(slope, ["adagrad", "rmsprop[alpha=0.9]"], budget=300, lr=0.1).paths:
        axes.loglog(path.evaluations[1:], path.effective_rates, label=path.label)
    axes.set(title="length of a step over that of its gradient", xlabel="step")
    axes.legend()
    return figure


def uncorrected(p, g, m, v, *, lr, beta1, beta2, eps):
    """p, g, m, v: same shape. Adam without the correction for averages that begin at zero. Returns new (p, m, v)."""
    m, v = lerp(m, g, 1 - beta1), lerp(v, g * g, 1 - beta2)
    return p - lr * m / (sqrt(v) + eps), m, v


class Uncorrected(steepest.Optimizer):
    """Adam without bias correction: its first step is (1 - β1) / √(1 - β2) = 3.16 times as long."""

    lr: float = fields.lr(1e-3)
    betas: tuple[float, float] = fields.betas((0.9, 0.999))
    eps: float = fields.eps(1e-8)
    rule = Rule(uncorrected, "pointwise", (State("exp_avg"), State("exp_avg_sq")))


def adams_bias_correction() -> Figure:
    """Without the correction v is too small for a thousand steps, and the first steps are much too long."""
    traced = trace("ravine", {"Adam": steepest.Adam, "Adam, uncorrected": Uncorrected}, budget=50, lr=0.1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    for path in traced.paths:
        left.plot(path.evaluations[1:], path.step_lengths, label=path.label)
        right.semilogy(path.evaluations, path.values)
    left.set(title="length of a step", xlabel="step", ylim=(0, None))
    right.set(title="value", xlabel="step")
    left.legend()
    return figure


def three_rates() -> Figure:
    """A rate that is too small is not there in time; one that is too large goes further away with every step."""
    return trace("ravine", ["sgd[lr=0.021]", "sgd[lr=0.018]", "sgd[lr=0.001]"], budget=20).figure()


PICTURES = (momentum_in_a_ravine, nag_looks_ahead, adagrads_shrinking_rate, adams_bias_correction, three_rates)


def main() -> None:
    """Write all pictures into a folder."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        picture().savefig(folder / f"{picture.__name__}.png", dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    main()
