"""Batch gradient descent: every update uses all training examples."""

from steepest.study.declaration import Workload, workload
from steepest.study.workloads import _descent


@workload
def full_batch(preset: str) -> Workload:
    """Gradient descent on the whole training set.

    Every update uses the gradient over all training examples: exact, costly, one update per epoch.

    Scikit-learn's digits, a network with one hidden layer of 32 units, learning rate 0.1. The workloads full-batch,
    mini-batch and single-example differ only in the batch size.
    """
    return _descent.descent(preset, _descent.TRAIN, steepestdescent={})
