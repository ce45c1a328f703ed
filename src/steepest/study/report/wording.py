"""Small words: counts, lists, signed figures and intervals as a reader expects them."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from steepest.study.records.format import EVALUATIONS, SECONDS, STEPS, Match
from steepest.study.report.findings.matching import TOLERANCE
from steepest.study.report.findings.measures import MISSING, Measure
from steepest.study.report.findings.summary import Spread
from steepest.study.report.findings.verdicts import Condition, Verdicts

COSTS: Final[Mapping[Match, str]] = {
    STEPS: "steps",
    SECONDS: "training seconds",
    EVALUATIONS: "gradient evaluations",
}
"""The kinds of equal cost in words."""


def plural(count: int, word: str) -> str:
    """Spell a count: ``3 seeds``, ``1 seed``.

    >>> plural(1_200, "step"), plural(1, "step")
    ('1,200 steps', '1 step')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def joined(words: Sequence[str]) -> str:
    """Join words: ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def plus_minus(spread: Spread, measure: Measure) -> str:
    """Spell ``0.879 ± 0.004``; without the second part below two seeds."""
    if spread.deviation is None:
        return measure.text(spread.mean)
    return f"{measure.text(spread.mean)} ± {measure.text(spread.deviation)}"


ACCURACY: Final = "accuracy"
"""The metric that is written in percent where a figure stands without a table around it."""


def number(value: float | None, digits: int = 4) -> str:
    """Print so many significant digits, or a dash."""
    return MISSING if value is None else f"{value:.{digits}g}"


def score(value: float | None, metric: str) -> str:
    """Print a metric's value: an accuracy in percent, others with four decimals, or four digits where they do not fit.

    >>> score(0.5, "accuracy"), score(0.12345, "loss"), score(1e30, "loss"), score(2e-7, "loss")
    ('50.00%', '0.1235', '1e+30', '2e-07')
    """
    if value is None:
        return MISSING
    if metric == ACCURACY:
        return f"{value:.2%}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


def signed(value: float | None) -> str:
    """Return three significant digits with their sign.

    >>> signed(0.0312345), signed(-2.0), signed(0.0), signed(-float("inf")), signed(None)
    ('+0.0312', '−2', '0', '−∞', '–')
    """
    if value is None or math.isnan(value):
        return MISSING
    digits = "∞" if math.isinf(value) else f"{abs(value):.3g}"
    return digits if value == 0 else f"{'+' if value > 0 else '−'}{digits}"


def between(low: float, high: float) -> str:
    """Return an interval with signs; a dash where it is the whole line.

    >>> between(-0.01, 0.5), between(0.25, float("inf")), between(-float("inf"), float("inf"))
    ('−0.01 to +0.5', '+0.25 to +∞', '–')
    """
    return MISSING if math.isinf(low) and math.isinf(high) and low < high else f"{signed(low)} to {signed(high)}"


def percent(share: float) -> str:
    """Return a share with as many digits as tell it.

    >>> percent(0.95), percent(0.99375), percent(1.0)
    ('95%', '99.4%', '100%')
    """
    return f"{100 * share:.3g}%"


def p_value(value: float) -> str:
    """Return two significant digits, no false zero.

    >>> p_value(0.03125), p_value(1.0), p_value(0.00003)
    ('0.031', '1', '< 0.0001')
    """
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Return seconds as a reader says them.

    >>> duration(0.0123), duration(75.0), duration(7500.0)
    ('12.3 ms', '75 s', '125 min')
    """
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:,.0f} min"


def numbers_in_words(values: Sequence[int]) -> str:
    """Return whole numbers, runs shortened.

    >>> numbers_in_words([0, 1, 2, 3, 7, 9, 10])
    '0–3, 7, 9–10'
    """
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def at_words(condition: Condition) -> str:
    """Return the point of training at which optimizers are compared.

    >>> at_words(Condition()), at_words(Condition("seconds", 75.0, {"SGD": 0.5}))
    ('at the end of training', 'at equal training seconds (75 s, the smallest total)')
    """
    end = "at the end of training"
    if condition.budget is None:
        return end
    if not condition.is_early:
        return f"{end}, where {COSTS[condition.match]} are equal within {percent(TOLERANCE)}"
    return f"at equal {COSTS[condition.match]} ({amount(condition)}, the smallest total)"


def amount(condition: Condition) -> str:
    """Return a budget of seconds or of gradient evaluations."""
    budget = condition.budget or 0.0
    return duration(budget) if condition.match == SECONDS else f"{budget:,.0f}"


def subject(verdicts: Verdicts) -> str:
    """Return the measure that verdicts compare, and the point of training if that is not its end."""
    title, condition = verdicts.measure.title, verdicts.condition
    return f"{title} {at_words(condition)}" if condition.is_early else title
