"""A plan that fits a time: the search trials and the seeds that a budget has room for, from a short calibration."""

import re
import time
from dataclasses import dataclass, field, replace
from typing import Final

from steepest.study.errors import UsageError
from steepest.study.planning import estimate
from steepest.study.planning.plan import ALPHA, Plan
from steepest.study.planning.request import Request
from steepest.study.records.format import StudyDocument
from steepest.study.statistics.permutation import seeds_for_a_verdict

RESERVE: Final = 0.1
"""The share of a budget that is not planned: an estimate is not a promise, and a report takes time too."""
SMALLEST_SEARCH: Final = 4
LARGEST_SEARCH: Final = 64
ALONE: Final = 3
"""The fewest seeds of a study with one optimizer, which needs no verdict."""
MOST_SEEDS: Final = 100
UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Budget:
    """A time that a study may take, and when the present run has spent it.

    Attributes:
        text: the time as it was given.
        seconds: the same in seconds.
        began: when the run began, on the monotonic clock.
    """

    text: str
    seconds: float
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def read(cls, text: str) -> "Budget":
        """Read a time such as 90s, 30m, 2h, 1d or 1h30m.

        Raises:
            UsageError: it is none, or zero.

        >>> Budget.read("1h30m").seconds
        5400.0
        """
        parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
        seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
        if not seconds or "".join(number + unit for number, unit in parts) != text:
            raise UsageError(f"--budget {text} is no time above zero; give numbers with units: 90s, 30m, 2h, 1d, 1h30m")
        return cls(text, seconds)

    @property
    def deadline(self) -> float:
        """The time on the monotonic clock after which no trial starts."""
        return self.began + self.seconds

    @property
    def room(self) -> float:
        """The seconds that are planned."""
        return (1.0 - RESERVE) * self.seconds


@dataclass(frozen=True)
class Sizes:
    """Search trials of every optimizer, and evaluation seeds."""

    trials: int
    seeds: int


@dataclass(frozen=True)
class Given:
    """Sizes that were asked for; None is the budget's to choose."""

    trials: int | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class Prices:
    """Seconds of a study by its sizes.

    Attributes:
        point: of one more search trial of all optimizers that search, on all tuning seeds.
        seed: of one more evaluation seed of all optimizers.
        timing: of the timing pass.
    """

    point: float
    seed: float
    timing: float = 0.0

    def of(self, sizes: Sizes) -> float:
        """Return the seconds of a study; a search runs the library's defaults too."""
        return self.search(sizes.trials) + sizes.seeds * self.seed + self.timing

    def search(self, trials: int) -> float:
        """Return the seconds of a search."""
        return (trials + 1) * self.point if trials else 0.0


def budgeted(request: Request, plan: Plan, budget: Budget, jobs: int) -> tuple[Request, str]:
    """Return the request with the sizes that the budget has room for, and a sentence that says which and why.

    `plan` is that of the request with a search of any size, if it shall have one.

    Raises:
        UsageError: the smallest useful plan takes longer.
    """
    comparisons, searching = len(plan.configs) - 1, bool(plan.candidates)
    sizes, why = chosen(
        Given(request.trials_wanted, request.seeds_wanted),
        prices_of(plan, jobs),
        budget,
        comparisons,
        searching=searching,
    )
    return replace(request, trials_wanted=sizes.trials, seeds_wanted=sizes.seeds), why


def chosen(given: Given, prices: Prices, budget: Budget, comparisons: int, *, searching: bool) -> tuple[Sizes, str]:
    """Return the sizes that the budget has room for at these prices, and a sentence that says which and why.

    `searching` is False where no optimizer has anything to search.

    Raises:
        UsageError: the smallest useful plan takes longer.
    """
    least = seeds_for_a_verdict(comparisons, ALPHA) if comparisons else ALONE
    trials = given.trials if searching or given.trials else 0
    smallest = Sizes(SMALLEST_SEARCH if trials is None else trials, given.seeds or least)
    if prices.of(smallest) > budget.room:
        raise UsageError(_refusal(budget, prices, smallest, given))
    sizes = choose(prices, budget.room, smallest, trials_free=trials is None, seeds_free=given.seeds is None)
    return sizes, _explanation(budget, prices, sizes, smallest, (trials is None, given.seeds is None))


def probing(request: Request) -> Request:
    """Return the request with a search of the smallest size, unless its size is given or it cannot have one."""
    if request.trials_wanted is not None:
        return request
    return replace(request, trials_wanted=0 if request.all_train else SMALLEST_SEARCH)


def continued(request: Request, document: StudyDocument) -> Request:
    """Return the request with the sizes of a folder's study where it does not name its own."""
    seeds = len(document.config.seeds) if request.seeds_wanted is None else request.seeds_wanted
    trials = document.protocol.trials if request.trials_wanted is None else request.trials_wanted
    return replace(request, trials_wanted=trials, seeds_wanted=seeds)


def check(request: Request) -> None:
    """Raise UsageError if the seeds are not the budget's to choose."""
    if request.more_seeds_wanted is not None:
        raise UsageError("--budget chooses the seeds that fit, and --more-seeds adds some; give one of the two")


def prices_of(plan: Plan, jobs: int) -> Prices:
    """Return the prices of a plan, with so many trials at once."""
    seconds = estimate.trial_seconds(plan)
    searching = sum(seconds[label] for label in plan.candidates)
    return Prices(
        point=searching * len(plan.search_seeds) / jobs,
        seed=sum(seconds.values()) / jobs,
        timing=estimate.timing_seconds(plan),
    )


def choose(prices: Prices, room: float, smallest: Sizes, *, trials_free: bool, seeds_free: bool) -> Sizes:
    """Return the sizes that fit into so many seconds, given that the smallest ones do.

    The search gets the largest power of two that takes at most half of the time, and the seeds the rest.
    """
    trials = smallest.trials
    while (
        trials_free and trials < LARGEST_SEARCH and _fits(prices, room, Sizes(2 * trials, smallest.seeds), seeds_free)
    ):
        trials *= 2
    if not seeds_free:
        return Sizes(trials, smallest.seeds)
    left = room - prices.of(Sizes(trials, 0))
    affordable = int(left / prices.seed) if left < MOST_SEEDS * prices.seed else MOST_SEEDS
    return Sizes(trials, max(smallest.seeds, affordable))


def _fits(prices: Prices, room: float, sizes: Sizes, seeds_free: bool) -> bool:
    return prices.of(sizes) <= room and (not seeds_free or prices.search(sizes.trials) <= room / 2)


def _refusal(budget: Budget, prices: Prices, smallest: Sizes, given: Given) -> str:
    least = _duration(prices.of(smallest) / (1.0 - RESERVE))
    why = "" if given.seeds else ", the fewest that can give a verdict"
    cheaper = _cheaper(prices, smallest, given)
    return (
        f"--budget {budget.text} is too short: {_sizes(smallest)}{why} take about {_duration(prices.of(smallest))} on "
        f"this machine, and a tenth is kept in reserve; give --budget {least} or more{cheaper}"
    )


def _cheaper(prices: Prices, smallest: Sizes, given: Given) -> str:
    if not smallest.trials or given.trials is not None:
        return ", fewer epochs, or fewer optimizers"
    without = prices.of(Sizes(0, smallest.seeds)) / (1.0 - RESERVE)
    return f", fewer epochs or optimizers, or --trials 0, which takes {_duration(without)} with settings as they are"


def _explanation(budget: Budget, prices: Prices, chosen: Sizes, smallest: Sizes, free: tuple[bool, bool]) -> str:
    trials_free, seeds_free = free
    rules = []
    if trials_free:
        half = "in half of the time" if seeds_free else "next to the given seeds"
        rules.append(
            f"the largest search that is used ({LARGEST_SEARCH})"
            if chosen.trials == LARGEST_SEARCH
            else "the smallest useful search"
            if chosen.trials == SMALLEST_SEARCH
            else f"the largest search, a power of two, {half}"
        )
    if seeds_free:
        rules.append(f"{MOST_SEEDS} seeds are enough" if chosen.seeds == MOST_SEEDS else "the rest for seeds")
    why = f" ({'; '.join(rules)})" if rules else ""
    took = _duration(prices.of(chosen))
    return f"{budget.text}, a tenth of it in reserve: {_sizes(chosen)}, about {took}{why}"


def _sizes(sizes: Sizes) -> str:
    seeds = f"{sizes.seeds} seed{'' if sizes.seeds == 1 else 's'}"
    return f"{sizes.trials} search trials of every optimizer and {seeds}" if sizes.trials else f"no search and {seeds}"


def _duration(seconds: float) -> str:
    """Return a time as `Budget.read` takes it, rounded up.

    >>> _duration(4000.0), _duration(59.2), _duration(7.2)
    ('1h7m', '1m', '8s')
    """
    whole = int(-(-seconds // 1))
    if whole < 60:
        return f"{whole}s"
    hours, minutes = divmod(-(-whole // 60), 60)
    return f"{hours}h{minutes}m" if hours and minutes else f"{hours}h" if hours else f"{minutes}m"
