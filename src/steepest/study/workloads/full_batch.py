"""Batch gradient descent: every update uses all training examples."""

from steepest.study.workloads import _descent

WORKLOAD = _descent.workload(
    name="full-batch",
    title="Gradient descent on the whole training set",
    lesson="Every update uses the gradient over all training examples: exact, costly, one update per epoch.",
    batch_size=_descent.TRAIN,
    steepestdescent={},
)
