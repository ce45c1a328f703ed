"""Stochastic gradient descent in the old sense: every update uses one example."""

from steepest.study.declaration import Workload, workload
from steepest.study.workloads import _descent


@workload
def single_example(preset: str) -> Workload:
    """Gradient descent on single examples.

    Every update uses the gradient of one example: very noisy, many updates, little work for each.

    Scikit-learn's digits, a network with one hidden layer of 32 units, learning rate 0.1. The workloads full-batch,
    mini-batch and single-example differ only in the batch size.
    """
    return _descent.descent(preset, 1)
