"""Mini-batch gradient descent: the usual compromise."""

from steepest.study.declaration import Workload, workload
from steepest.study.workloads import _descent


@workload
def mini_batch(preset: str) -> Workload:
    """Gradient descent on mini-batches.

    Every update uses the gradient over 32 examples: noisy enough to be cheap, steady enough to be fast.

    Scikit-learn's digits, a network with one hidden layer of 32 units, learning rate 0.1. The workloads full-batch,
    mini-batch and single-example differ only in the batch size.
    """
    return _descent.descent(preset, 32)
