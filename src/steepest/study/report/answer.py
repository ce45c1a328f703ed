"""The study's answer in careful words, written from its figures. No claim of significance is made anywhere."""

from collections.abc import Sequence

from steepest.study.report.measures import Measure, goal
from steepest.study.report.reader import INTERRUPTED, UNSTARTED, Study
from steepest.study.report.summary import Spread, Summary, close, ranked, statuses


def answer(study: Study, summaries: Sequence[Summary]) -> str:
    """One sentence: who came out highest (or lowest), by how much, and how that compares with the seeds' spread."""
    measure = goal(study)
    order = ranked(summaries, measure)
    if not order:
        return "No trial has finished yet, so there is nothing to compare."
    best, kind = order[0], _kind(order[0].spreads[measure.key], measure)
    so_far = "So far, " if _unfinished(study) else ""
    reached = _reached(best.spreads[measure.key], measure)
    if len(order) == 1:
        return (
            f"{so_far}{best.label} has a {kind} of {reached}; no other optimizer has a finished trial to set beside it."
        )
    word = "highest" if measure.better > 0 else "lowest"
    return f"{so_far}{best.label} had the {word} {kind}: {reached}, {_lead(measure, best, order[1])}"


def caution(study: Study, summaries: Sequence[Summary]) -> tuple[str, ...]:
    """What a reader must know before repeating the answer, one sentence each."""
    measure = goal(study)
    order = ranked(summaries, measure)
    if not order:
        return ()
    found = (_near(order, measure), _ended(study), _untuned(study))
    return tuple(sentence for sentence in found if sentence)


def plural(count: int, word: str) -> str:
    """``3 seeds``, ``1 seed``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def joined(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def plus_minus(spread: Spread, measure: Measure) -> str:
    """``0.879 ± 0.004``; without the second part below two seeds."""
    if spread.deviation is None:
        return measure.text(spread.mean)
    return f"{measure.text(spread.mean)} ± {measure.text(spread.deviation)}"


def _unfinished(study: Study) -> bool:
    """Whether trials are still to run: the answer may change when they have."""
    return any(trial.status in (INTERRUPTED, UNSTARTED) for trial in study.trials)


def _kind(spread: Spread, measure: Measure) -> str:
    return f"mean {measure.title.lower()}" if spread.count > 1 else measure.title.lower()


def _reached(spread: Spread, measure: Measure) -> str:
    if spread.count == 1:
        return f"{measure.text(spread.mean)} with its one seed"
    return f"{plus_minus(spread, measure)} over {spread.count} seeds"


def _lead(measure: Measure, best: Summary, second: Summary) -> str:
    one, two = best.spreads[measure.key], second.spreads[measure.key]
    high, low = one.mean or 0.0, two.mean or 0.0
    shown = abs(round(high, measure.decimals) - round(low, measure.decimals))  # as a reader subtracts what is printed
    where = "above" if measure.better > 0 else "below"
    ahead = f"{measure.text(shown)} {where}" if shown else "level with"
    return f"{ahead} {second.label} ({plus_minus(two, measure)}); {_weight(abs(high - low), one, two)}"


def _weight(gap: float, one: Spread, two: Spread) -> str:
    if one.count == 1 and two.count == 1:
        return "with one seed each this decides nothing."
    if one.deviation is None or two.deviation is None:
        return "one of the two has a single seed, so this decides nothing."
    widest = max(one.deviation, two.deviation)
    if gap <= widest:
        return "that gap is no larger than the spread between seeds, so these runs do not separate the two."
    ratio = f"{gap / widest:.1f} times" if widest else "more than"
    return f"that gap is {ratio} the larger seed spread of the two."


def _near(order: Sequence[Summary], measure: Measure) -> str:
    """Those beyond the second, whom the answer names, that the spread does not separate from the first either."""
    near = [other.label for other in order[2:] if close(order[0].spreads[measure.key], other.spreads[measure.key])]
    if not near:
        return ""
    return f"Also within one seed spread of {order[0].label}: {joined(near)}."


def _ended(study: Study) -> str:
    others = {status: count for status, count in statuses(study.trials).items() if status != "finished"}
    if not others:
        return ""
    counts = joined([f"{count} {status}" for status, count in others.items()])
    means = "every mean says how many seeds it covers"
    return f"Of {plural(len(study.trials), 'trial')}, {counts}; {means}."


def _untuned(study: Study) -> str:
    if len(study.optimizers) < 2:
        return ""
    return (
        "Every optimizer ran with one fixed setting: this compares settings, "
        "and another learning rate may reorder them."
    )
