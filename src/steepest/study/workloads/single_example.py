"""Stochastic gradient descent in the old sense: every update uses one example."""

from steepest.study.workloads import _descent

WORKLOAD = _descent.workload(
    name="single-example",
    title="Gradient descent on single examples",
    lesson="Every update uses the gradient of one example: very noisy, many updates, little work for each.",
    batch_size=1,
)
