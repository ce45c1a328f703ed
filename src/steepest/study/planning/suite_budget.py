"""A budget of time for several workloads: one choice of sizes for all, and each one's share of the time."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from steepest.study.planning import budget as budgets
from steepest.study.planning.budget import Budget, Given, Prices, Sizes
from steepest.study.planning.plan import Plan
from steepest.study.planning.request import Request


def probing(request: Request, given: Given) -> Request:
    """Return the request with a search of the smallest size, unless its size is given or it cannot have one."""
    if given.trials is not None:
        return request
    return replace(request, trials_wanted=0 if request.all_train else budgets.SMALLEST_SEARCH)


def budgeted(given: Given, plans: Sequence[Plan], budget: Budget, jobs: int) -> tuple[Sizes, str]:
    """Return the sizes that the budget has room for on all workloads together, and a sentence on why these.

    `plans` have a search of any size, if they shall have one.

    Raises:
        UsageError: the smallest useful plan takes longer.
    """
    prices = total([budgets.prices_of(plan, jobs) for plan in plans])
    searching = any(plan.candidates for plan in plans)
    comparisons = max(len(plan.configs) for plan in plans) - 1
    return budgets.chosen(given, prices, budget, comparisons, searching=searching)


def total(prices: Sequence[Prices]) -> Prices:
    """Return the prices of several studies of equal sizes."""
    return Prices(
        point=sum(one.point for one in prices),
        seed=sum(one.seed for one in prices),
        timing=sum(one.timing for one in prices),
    )


def shared(budget: Budget, plans: Sequence[Plan], jobs: int) -> tuple[Budget, ...]:
    """Return the budget of every workload: it ends when its share of the time, and those before it, are spent.

    Shares are in proportion to the cost, so that an earlier workload that needs less leaves the rest to later ones.
    """
    costs = [_cost(plan, jobs) for plan in plans]
    shares = [cost / sum(costs) for cost in costs]
    return tuple(
        replace(budget, text=f"{budget.text} (its share: {share:.0%})", seconds=budget.seconds * so_far)
        for share, so_far in zip(shares, accumulate(shares), strict=True)
    )


def _cost(plan: Plan, jobs: int) -> float:
    trials = plan.document.protocol.trials if plan.candidates else 0
    return budgets.prices_of(plan, jobs).of(Sizes(trials, len(plan.seeds)))
