"""Workloads whose data are DataLoaders and datasets: order, augmentation, batches of any structure, resumption."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset, get_worker_info

from steepest.study.data import batches
from steepest.study.data.loaders import loaded
from steepest.study.data.splits import Sizes
from steepest.study.declaration import Metric, Workload
from steepest.study.errors import UsageError
from steepest.study.planning import estimate
from steepest.study.planning.plan import Plan
from steepest.study.report.findings.findings import findings
from steepest.study.report.stored.reader import read_study
from steepest.study.report.text.answer import answer
from steepest.study.running import engine
from steepest.study.running.store import StudyFolder

from .small import CLASSES, X, net, planned, small
from .support import Silent, dropped, evaluations, events_of, record_bytes, run_with_checkpoints

TRAIN, VALIDATION, TEST = slice(0, 60), slice(60, 75), slice(75, 90)


class Noisy(Dataset[Any]):
    """Points with noise from the three global generators, anew in every reading."""

    def __init__(self, rows: slice = TRAIN) -> None:
        self.x, self.y = X[rows], CLASSES[rows]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        noise = torch.rand(4) + np.random.random() + random.random()
        return self.x[index] + 0.1 * noise.float(), self.y[index]


class Named(Noisy):
    """The same points as dicts with a text."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return {"x": x, "labels": y, "text": f"point {index}"}


class Stream(IterableDataset[Any]):
    """Points in an order of their own in every pass, shared among worker processes."""

    def __init__(self, rows: slice = TRAIN) -> None:
        self.data = Noisy(rows)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        order = torch.randperm(len(self.data)).tolist()
        return (self.data[index] for index in order if index % step == first)


class Endless(IterableDataset[Any]):
    """Points without an end."""

    def __iter__(self) -> Iterator[Any]:
        while True:
            x = torch.randn(4)
            yield x, (x[0] > 0).long()


class Stack:
    """An iterable of batches that is no DataLoader."""

    def __iter__(self) -> Iterator[Any]:
        return iter([(X[rows], CLASSES[rows]) for rows in torch.randperm(60).split(20)])


@dataclass
class Output:
    """What a model of a library returns."""

    loss: Tensor | None
    logits: Tensor


class Labelled(nn.Module):
    """A network that computes its loss, as those of transformers do."""

    def __init__(self, returned: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
        self._returned = returned

    def forward(self, x: Tensor, labels: Tensor, text: Any = None) -> Any:
        logits = self.net(x)
        return self._returned(cross_entropy(logits, labels), logits)


def loader(data: Any, size: int = 16, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=size, **options)


def usual(train: Any, **changes: Any) -> Workload:
    """Return a workload on a training set in any form, with noisy points for validation and test."""
    return small(**{"data": (train, Noisy(VALIDATION), Noisy(TEST)), **changes})


def in_steps(train: Any, steps: int = 30, **changes: Any) -> Workload:
    return usual(train, **{"horizon": None, "steps": steps, "evaluate_every": 10, **changes})


def named(returned: Callable[[Tensor, Tensor], Any], **changes: Any) -> Workload:
    """Return a workload with dict batches whose model computes the loss."""
    right = Metric("accuracy", "maximize", lambda outputs, batch: hits(outputs["logits"], batch["labels"]))
    data = (Named(), Named(VALIDATION), Named(TEST))
    return small(**{"data": data, "model": lambda: Labelled(returned), "loss": None, "metric": right, **changes})


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == labels).float()


def steps_of(plan: Plan, number: int = 0) -> list[dict[str, Any]]:
    events = events_of(evaluations(plan)[number], plan.task)
    return [event.record for event in events if event.record["kind"] == "step"]


def seen(train: Any, seed: int, epochs: int = 2) -> list[Tensor]:
    """Return the inputs of some epochs, as a trial of this seed sees them."""
    data = loaded(train).batched(16, shuffle=True)
    return [torch.cat([batch[0] for batch in data.passed(seed, epoch)]) for epoch in range(1, epochs + 1)]


TRAINING = {
    "a loader": lambda: loader(Noisy(), shuffle=True),
    "a loader with a generator": lambda: loader(Noisy(), shuffle=True, generator=torch.Generator().manual_seed(1)),
    "a loader with processes": lambda: loader(Noisy(), shuffle=True, num_workers=2),
    "a loader with a sampler": lambda: loader(Noisy(), sampler=RandomSampler(Noisy(), True, 48)),
    "a dataset": Noisy,
    "an iterable dataset": Stream,
    "an iterable dataset with processes": lambda: loader(Stream(), num_workers=2),
    "an iterable of batches": Stack,
}


@pytest.mark.parametrize("make", TRAINING.values(), ids=TRAINING)
def test_batches_depend_on_seed_and_epoch_alone(make: Callable[[], Any]) -> None:
    train = make()
    first, second = seen(train, 0)
    assert not torch.equal(first, second)
    assert not torch.equal(first, seen(train, 1)[0])
    torch.rand(3), random.random(), np.random.random()
    for again in (train, make()):
        assert all(map(torch.equal, seen(again, 0), (first, second)))


@pytest.mark.parametrize("make", TRAINING.values(), ids=TRAINING)
def test_optimizers_of_a_seed_see_the_same_batches(make: Callable[[], Any]) -> None:
    """With a rate of 0 nothing moves: losses are equal only if the batches are."""
    plan = planned(in_steps(make(), 8, evaluate_every=4), "sgd[lr=0]", "adam[lr=0]", seeds_wanted=2)
    found = [steps_of(plan, number) for number in range(4)]
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[0] != found[2]
    assert len({line["loss"] for line in found[0]}) == 8


def test_the_users_generators_and_the_global_ones_stay_as_they_were() -> None:
    generator = torch.Generator().manual_seed(1)
    train = loader(Noisy(), shuffle=True, generator=generator)
    before = generator.get_state(), torch.get_rng_state(), random.getstate()
    assert seen(train, 0)
    after = generator.get_state(), torch.get_rng_state(), random.getstate()
    assert all(torch.equal(*pair) for pair in zip(before[:2], after[:2], strict=True))
    assert before[2] == after[2]
    assert train.generator is train.sampler.generator is generator  # type: ignore[attr-defined]


KILLED = {
    **{name: (lambda make=make: in_steps(make())) for name, make in TRAINING.items()},
    "epochs of a loader": lambda: usual(loader(Noisy(), shuffle=True, num_workers=2), horizon=8),
    "steps of tensors": lambda: in_steps(None, data=(X, CLASSES)),
    "an endless stream": lambda: in_steps(Endless()),
    "dicts, the model's loss": lambda: named(lambda loss, logits: Output(loss, logits), horizon=8, metric=ON_OUTPUT),
    "dicts in parts": lambda: named(lambda loss, logits: {"loss": loss, "logits": logits}, horizon=8, accumulate=3),
}
ON_OUTPUT = Metric("accuracy", "maximize", lambda outputs, batch: hits(outputs.logits, batch["labels"]))


@pytest.mark.every(3)
@pytest.mark.parametrize("make", KILLED.values(), ids=KILLED)
def test_a_killed_trial_ends_in_the_same_bytes(make: Callable[[], Workload], tmp_path: Path) -> None:
    plan, folder = planned(make(), "adamw[lr=0.01]", schedule_wanted="cosine"), StudyFolder(tmp_path)
    spec, task = evaluations(plan)[0], plan.task
    whole = events_of(spec, task)
    with folder.writing():
        begun = [dropped(spec, task, folder, step) for step in (23, 26)]
        last = run_with_checkpoints(spec, task, folder)
    assert [events[0].record["kind"] for events in (*begun, last)] == ["trial", "resumed", "resumed"]
    assert record_bytes(folder, spec) == record_bytes(whole)
    assert last[-1].timing is not None
    assert not {"restarts", "left_behind"} & last[-1].timing.keys()


class Remembering(Stream):
    """A stream whose points change with the number of those that were ever read, after the first hundred."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        for index in range(60):
            self.read += 1
            yield self.data.x[index] + (self.read if self.read > 100 else 0), self.data.y[index]


def test_data_that_remember_earlier_passes_are_found_by_the_twin(tmp_path: Path) -> None:
    plan, folder = planned(in_steps(Remembering()), "adamw"), StudyFolder(tmp_path)
    spec = evaluations(plan)[0]
    with folder.writing():
        last = run_with_checkpoints(spec, plan.task, folder)
    assert last[-1].timing is not None
    assert "a twin that went on from a checkpoint had another" in last[-1].timing["restarts"]


def test_a_study_in_steps_ends_with_a_verdict(tmp_path: Path) -> None:
    workload = in_steps(Stream(), target=(0.55, 0.6), sizes=None)
    plan, folder = planned(workload, "adam[lr=0.03]", "sgd[lr=0.1]", seeds_wanted=6), StudyFolder(tmp_path / "study")
    assert (plan.document.config.unit, plan.document.config.epochs, plan.subject.steps) == ("steps", 30, 30)
    assert estimate.cost(plan).seconds > 0
    assert set(engine.run(plan, folder, Silent()).ended) == {"finished"}
    results = findings(read_study(folder.path))
    assert answer(results.study, results.verdicts, results.summaries).startswith("On test accuracy at the end of")
    assert [epoch.step for epoch in results.study.trials[0].epochs] == [0, 10, 20, 30]
    times = [time for row in results.targets[0].rows for _, time in row.times["steps"]]
    assert len(times) == 12
    assert {0.0, 10.0, 20.0, 30.0} & set(times)


def test_the_length_in_steps_may_be_asked_for() -> None:
    assert planned(in_steps(Stream()), steps_wanted=12).document.config.epochs == 12
    with pytest.raises(UsageError, match="small counts steps; give its length as --steps"):
        planned(in_steps(Stream()), epochs_wanted=2)
    with pytest.raises(UsageError, match="small counts epochs; give its length as --epochs"):
        planned(small(), steps_wanted=2)


RETURNED: dict[str, tuple[Callable[[Tensor, Tensor], Any], Metric]] = {
    "an output": (Output, ON_OUTPUT),
    "a dict": (
        lambda loss, logits: {"loss": loss, "logits": logits},
        Metric("accuracy", "maximize", lambda outputs, batch: hits(outputs["logits"], batch["labels"])),
    ),
    "the loss itself": (lambda loss, logits: loss, Metric("loss", "minimize")),
}


@pytest.mark.parametrize(("returned", "metric"), RETURNED.values(), ids=RETURNED)
def test_a_model_may_compute_the_loss(returned: Callable[[Tensor, Tensor], Any], metric: Metric) -> None:
    """It trains exactly as a declared loss does on the same batches."""
    plan = planned(named(returned, metric=metric), "adamw[lr=0.01]")
    declared = named(
        lambda loss, logits: logits,
        loss=lambda outputs, batch: cross_entropy(outputs, batch["labels"]),
        metric=Metric("loss", "minimize"),
    )
    mine, theirs = (steps_of(made) for made in (plan, planned(declared, "adamw[lr=0.01]")))
    assert [line["loss"] for line in mine] == [line["loss"] for line in theirs]


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        out: Tensor = self.net(left + right)
        return out


def test_a_tuple_of_three_has_two_inputs_and_targets() -> None:
    def triples(rows: slice) -> TensorDataset:
        return TensorDataset(0.25 * X[rows], 0.75 * X[rows], CLASSES[rows])

    def pairs(rows: slice) -> TensorDataset:
        return TensorDataset(X[rows], CLASSES[rows])

    sums, whole = (
        small(data=tuple(map(make, (TRAIN, VALIDATION, TEST))), model=model)
        for make, model in ((triples, Sum), (pairs, net))
    )
    assert [line["loss"] for line in steps_of(planned(sums))] == pytest.approx(
        [line["loss"] for line in steps_of(planned(whole))], rel=1e-5
    )


def test_a_whole_batch_may_go_to_the_model_without_a_loss() -> None:
    workload = usual(
        Noisy(), model=lambda: Labelled(lambda loss, logits: loss), loss=None, metric=Metric("loss", "minimize")
    )
    assert len(steps_of(planned(workload))) == 8


def test_parts_of_a_dict_add_up_to_its_gradient() -> None:
    whole, parts = (
        steps_of(planned(named(Output, metric=ON_OUTPUT, model=lambda: Plain(), accumulate=count), "sgd[lr=0.1]"))
        for count in (1, 3)
    )
    assert [line["loss"] for line in parts] == pytest.approx([line["loss"] for line in whole], rel=1e-5)


class Plain(Labelled):
    """The network without dropout, which draws in parts otherwise."""

    def __init__(self) -> None:
        super().__init__(Output)
        self.net[2] = nn.Identity()


def auc(scores: Tensor, labels: Tensor) -> float:
    above = (scores[labels == 1][:, None] > scores[labels == 0]).float()
    return above.mean().item()


def test_a_metric_of_a_whole_set_sees_all_batches_of_a_loader() -> None:
    calls: list[tuple[tuple[int, ...], int]] = []

    def of(outputs: Output, batch: dict[str, Any]) -> float:
        calls.append((tuple(outputs.logits.shape), len(batch["text"])))
        return auc(outputs.logits[:, 1] - outputs.logits[:, 0], batch["labels"])

    workload = named(Output, metric=Metric("auc", "maximize", of, over="set"), data=tuple(map(in_fives, (Named,) * 3)))
    plan = planned(workload)
    calls.clear()
    events = events_of(evaluations(plan)[0], plan.task)
    assert set(calls) == {((15, 2), 15)}
    assert 0 <= events[-1].record["test_auc"] <= 1


def in_fives(make: Callable[[slice], Any]) -> DataLoader[Any]:
    return loader(make(VALIDATION), 5)


def test_the_loss_of_a_set_is_weighted_by_examples() -> None:
    """Sixteen and then fourteen examples, or all at once: the mean over them is the same."""
    found = []
    for size in (16, 7, 30):
        points = [loader(TensorDataset(X[rows], CLASSES[rows]), size) for rows in (slice(0, 30), slice(30, 60))]
        plan = planned(small(data=(TensorDataset(X, CLASSES), *points)), "sgd[lr=0.1]")
        found.append(events_of(evaluations(plan)[0], plan.task)[-1].record["test_loss"])
    assert found[1:] == pytest.approx([found[0]] * 2, rel=1e-6)


class Own(Noisy):
    """Points with noise from a generator of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def __getitem__(self, index: int) -> Any:
        return self.x[index] + torch.rand(4, generator=self.generator), self.y[index]


class Short(Stack):
    def __len__(self) -> int:
        return 4


class Empty(Stack):
    def __iter__(self) -> Iterator[Any]:
        return iter([])


class OfBatches(Stack):
    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Any]:
        return iter([self.batch])


REFUSED: dict[str, tuple[Callable[[], Workload], str]] = {
    "no __iter__": (lambda: usual(object()), "object has no __iter__ and yields no batches; give a DataLoader"),
    "a pass that cannot be repeated": (lambda: usual(iter(Stack())), "can be read once only, and every epoch reads it"),
    "persistent processes": (
        lambda: usual(loader(Noisy(), num_workers=1, persistent_workers=True)),
        "persistent_workers=True keeps draws in other processes",
    ),
    "an iterable dataset in epochs": (
        lambda: usual(Stream()),
        "no number of epochs is known: give the horizon in steps",
    ),
    "draws of its own": (lambda: usual(Own()), "yields other batches when it is read again from equal seeds"),
    "no batch": (lambda: in_steps(Empty()), "the Empty for training yields no batch"),
    "a tensor": (lambda: in_steps(OfBatches(X)), "a batch must be a dict, which the model gets by name"),
    "a text": (lambda: in_steps(OfBatches("x")), "a batch must be a dict, which the model gets by name"),
    "no targets": (lambda: in_steps(OfBatches((X,))), "a batch of one entry, (90, 4), has no targets for the loss"),
    "no tensor": (lambda: in_steps(OfBatches(("x", "y"))), "must hold a tensor with an entry for every example"),
    "an unknown name": (lambda: in_steps(OfBatches({"y": X})), "the model stopped on a batch of {'y': (90, 4)} with"),
    "no loss of the model": (
        lambda: usual(Noisy(), model=lambda: Labelled(lambda loss, logits: logits), loss=None),
        "the workload declares no loss, so the model must return it: a scalar tensor, or an output with .loss or "
        "['loss']; it returned (16, 2)",
    ),
    "an output without its loss": (
        lambda: named(lambda loss, logits: Output(None, logits), metric=ON_OUTPUT),
        "so the model must return it",
    ),
    "sizes": (lambda: usual(Noisy(), sizes=Sizes(10, 10, 10)), "they have no sizes to choose"),
    "no batch size": (lambda: usual(Noisy(), batch_size=None), "Noisy is a dataset, which needs one"),
    "no batch size for tensors": (lambda: small(batch_size=None), "only DataLoaders have their own"),
    "both lengths": (lambda: small(steps=10), "a horizon in epochs (horizon=) or in steps (steps=); both are given"),
    "no length": (lambda: small(horizon=None), "in steps (steps=); none is given"),
    "steps without evaluations": (
        lambda: small(horizon=None, steps=100),
        "a horizon of 100 steps has no epochs to evaluate in; give evaluate_every=, such as 10",
    ),
    "no whole number": (lambda: small(horizon=None, steps=1.5), "steps of a workload must be a whole number"),
}


@pytest.mark.parametrize(("make", "told"), REFUSED.values(), ids=REFUSED)
def test_bad_declarations_are_told(make: Callable[[], Workload], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        planned(make())


def test_all_train_is_refused_for_loaders() -> None:
    with pytest.raises(UsageError, match="they have no sizes to choose"):
        planned(usual(Noisy()), all_train=True)


def test_a_loader_of_another_length_than_it_says_stops_its_trial() -> None:
    plan = planned(usual(Short()))
    with pytest.raises(UsageError, match="yielded 3 batches, and its length says 4"):
        events_of(evaluations(plan)[0], plan.task)


def test_outputs_of_different_shapes_cannot_be_joined() -> None:
    with pytest.raises(UsageError, match=r"batches cannot be concatenated for the metric: .*; pad all of them"):
        batches.joined([torch.zeros(2, 3), torch.zeros(2, 4)])
    with pytest.raises(UsageError, match="a object cannot be concatenated over batches"):
        batches.joined([object(), object()])


def test_structures_keep_their_form() -> None:
    value = (Output(None, X), {"texts": ["a"] * len(X), "scale": 2.0, "empty": None})
    parts = batches.divided(value, 4)
    assert [len(part[0].logits) for part in parts] == [23, 23, 23, 21]
    assert [len(part[1]["texts"]) for part in parts] == [23, 23, 23, 21]
    again = batches.joined([replace(part[0]) for part in parts])
    assert isinstance(again, Output)
    assert torch.equal(again.logits, X)


def test_a_loader_decides_about_the_batch_size() -> None:
    sets = tuple(loader(Noisy(rows), 20) for rows in (TRAIN, VALIDATION, TEST))
    plan = planned(small(data=sets, batch_size=None))
    assert (plan.document.config.batch_size, plan.document.config.steps_per_epoch) == (20, 3)
    assert plan.document.data is None
