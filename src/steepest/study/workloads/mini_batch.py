"""Mini-batch gradient descent: the usual compromise."""

from steepest.study.workloads import _descent

WORKLOAD = _descent.workload(
    name="mini-batch",
    title="Gradient descent on mini-batches",
    lesson="Every update uses the gradient over 32 examples: noisy enough to be cheap, steady enough to be fast.",
    batch_size=32,
)
