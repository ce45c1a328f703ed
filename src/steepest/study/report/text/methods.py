"""A methods paragraph for a paper, written from the stored plan; it says nothing that the plan does not hold."""

from steepest.study.report.findings.findings import Findings
from steepest.study.report.findings.settings import by_schedule, searched
from steepest.study.report.stored.study import Study
from steepest.study.report.text.matching import matched_methods
from steepest.study.report.wording import joined, numbers_in_words, percent, plural, subject

SAMPLERS = {"sobol": "scrambled Sobol points", "random": "independent uniform points"}


def methods(findings: Findings) -> str:
    """Return the methods paragraph."""
    study = findings.study
    parts = (
        _task(study),
        _tuning(findings) if study.tuned else _fixed(study),
        _schedule(study),
        _evaluation(study),
        _tests(findings),
        matched_methods(findings),
        _targets(findings),
        _timing(findings),
        _machine(study),
    )
    return " ".join(part for part in parts if part)


def _task(study: Study) -> str:
    model, data, config = study.document.model, study.document.data, study.document.config
    length = plural(config.epochs, config.unit.removesuffix("s"))
    trained = f"The model ({model.name}, {model.parameters:,} parameters) was trained"
    if data is None:
        place = "on the data" if config.evaluations else "in the training loop"  # of a workload, of an experiment
        return f"{trained} for {length} {place} of {config.task.source}."
    sizes = joined([f"{data.train:,} training", f"{data.validation:,} validation", f"{data.test:,} test"])
    return f"{trained} on {data.name} ({sizes} examples) for {length} in batches of {config.batch_size:,}."


def _tuning(findings: Findings) -> str:
    study, protocol = findings.study, findings.study.protocol
    drawn = SAMPLERS.get(str(protocol.sampler), f"points of the sampler {protocol.sampler}")
    groups: dict[str, list[str]] = {}
    for search in findings.searches:
        groups.setdefault(searched(search.setting.space), []).append(search.label)
    spaces = "; ".join(f"{space} for {joined(labels)}" for space, labels in groups.items())
    given = [label for label in study.labels if label not in {search.label for search in findings.searches}]
    return (
        f"For each optimizer {plural(protocol.trials, 'setting')} ({drawn}: {spaces}) and the library's defaults were "
        f"tried on {plural(len(protocol.tuning_seeds), 'tuning seed')}{_extensions(findings)}; the setting with the "
        f"best mean validation {study.metric.replace('_', ' ')} after the last step was evaluated on fresh seeds."
        + (f" {joined(given)} ran as given." if given else "")
    )


def _extensions(findings: Findings) -> str:
    if not findings.study.protocol.extensions:
        return ""
    total = max((one.drawn for one in findings.searches), default=0)
    beyond = joined(list(dict.fromkeys(label for one in findings.study.protocol.extensions for label in one)))
    return f", then {total} in all, for {beyond} beyond the edge of the range on which the best rate lay"


def _fixed(study: Study) -> str:
    return f"{joined(list(study.labels))} ran with one fixed setting each; nothing was tuned." if study.labels else ""


def _schedule(study: Study) -> str:
    groups = by_schedule(study)
    if len(groups) == 1:
        return f"The learning-rate schedule was {next(iter(groups))} throughout."
    parts = [f"{name} for {joined(labels)}" for name, labels in groups.items()]
    return f"Learning-rate schedules: {'; '.join(parts)}." if parts else ""


def _evaluation(study: Study) -> str:
    seeds = sorted({trial.seed for trial in study.trials})
    if not seeds:
        return ""
    purposes = joined(list(study.document.seed_purposes))
    streams = f" Random numbers came from one stream per purpose ({purposes}), none of them the optimizer's."
    return (
        f"Each optimizer was evaluated on {plural(len(seeds), 'seed')} ({numbers_in_words(seeds)})"
        f" on the test set, once, after the last step.{streams}"
    )


def _tests(findings: Findings) -> str:
    verdicts = findings.verdicts
    if not verdicts.comparisons:
        return ""
    margin = f" Equivalent means that the interval lies within ±{verdicts.margin:g}." if verdicts.margin else ""
    comparisons = plural(len(verdicts.comparisons), "comparison")
    intervals = "; ".join(dict.fromkeys(comparison.interval.method for comparison in verdicts.comparisons))
    what = subject(verdicts).lower()
    if verdicts.looks:
        return (
            f"Against {verdicts.reference}, {what} was compared by two-sided paired "
            f"sign-flip permutation tests in {plural(len(verdicts.looks), 'planned look')} (at "
            f"{joined(list(map(str, verdicts.looks)))} seeds; after a share t of them t to the power of "
            f"{findings.study.protocol.spending:g} of the error rate may be spent), with Holm's correction over "
            f"{comparisons} at a family-wise error rate of {percent(verdicts.alpha)} over all looks. Optimizers with a "
            f"verdict took no part in further looks. Intervals hold together over all looks and comparisons "
            f"({intervals}). A diverged run counts as worse than any finite result.{margin}"
        )
    return (
        f"Against {verdicts.reference}, {what} was compared by two-sided paired sign-flip "
        f"permutation tests with Holm's correction over {comparisons} at a family-wise error rate of "
        f"{percent(verdicts.alpha)}, with simultaneous {percent(verdicts.level)} intervals ({intervals}). "
        f"A diverged run counts as worse than any finite result.{margin}{_power(verdicts.detectable)}"
    )


def _power(detectable: float | None) -> str:
    if detectable is None:
        return ""
    return (
        f" With these seeds a true mean difference of {detectable:.2g} standard deviations of the paired differences "
        "is found with probability 0.8, if they are normal."
    )


def _targets(findings: Findings) -> str:
    if not findings.targets:
        return ""
    metric = f"validation {findings.study.metric.replace('_', ' ')}"
    values = joined([f"{target.value:g}" for target in findings.targets])
    return (
        f"Time to target is the first evaluation at which {metric} reached {values} and stayed there at the next; "
        "a miss is infinite, enters medians and ranks, and no mean."
    )


def _timing(findings: Findings) -> str:
    if not findings.costs:
        return ""
    return (
        "Seconds are the median time of a step (forward, backward, update) in a separate timing pass, "
        "one trial at a time."
    )


def _machine(study: Study) -> str:
    names = {"steepest": "Steepest", "torch": "PyTorch"}
    document = study.document
    tools = joined([f"{name} {document.versions[key]}" for key, name in names.items()])
    cpu = f" on {document.machine.cpu}" if document.machine.cpu else ""
    return f"Software and machine: {tools}{cpu}, {plural(document.threads, 'thread')} a trial."
