"""Every workload that is found is checked; nothing is listed by hand.

Fashion-MNIST is used where the machine has it, else its stand-in; nothing is downloaded. Both ways must pass.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from steepest import registry
from steepest.study import seeds, workloads
from steepest.study.data import adapt, digits, fetch
from steepest.study.data.dataset import DataSet
from steepest.study.data.splits import Sizes
from steepest.study.declaration import PRESETS, Declared, Metric, Workload
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import parse_config
from steepest.study.planning.request import Request
from steepest.study.statistics.permutation import seeds_for_a_verdict
from steepest.study.trials.evaluation import evaluate
from steepest.study.trials.performance import perform
from steepest.study.trials.run import Run, Watcher
from steepest.study.trials.spec import TaskName, TrialSpec
from steepest.study.trials.task import Task, task_of

ALL = list(workloads.workloads().values())
SAMPLE = 4


@pytest.fixture(autouse=True)
def _nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise fetch.FetchError("tests download nothing")

    monkeypatch.setattr(fetch, "fetch", refuse)


def named(workload: Declared) -> str:
    return workload.name


def size_of(workload: Workload) -> Sizes:
    assert workload.sizes is not None
    return workload.sizes


@cache
def data_of(source: Callable[..., DataSet], time: int = 1) -> DataSet:
    return adapt.load(source)


def task_on(workload: Workload) -> Task:
    data = data_of(workload.data)
    return task_of(workload, data, size_of(workload).fitted(data))


def seeded(task: Task) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return task.model()


def meets(metric: Metric, value: float, target: float) -> bool:
    return metric.sign * value >= metric.sign * target


def smoke_trial(declared: Declared, name: str) -> tuple[TrialSpec, Task]:
    """Return a trial of the smoke study, with an optimizer as it is set here."""
    workload = declared("smoke")
    spec = TrialSpec(
        config=parse_config(name, workload.settings),
        seed=1,
        phase="evaluation",
        task=TaskName(declared.source, "smoke", size_of(workload)),
        epochs=workload.horizon,
        batch_size=workload.batch_size,
        evaluations=workload.evaluations,
        precision="fp32",
        threads=1,
        setting={},
    )
    return spec, task_on(workload)


@pytest.mark.parametrize("declared", ALL, ids=named)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_workload_is_complete(declared: Declared, preset: str) -> None:
    workload = declared(preset)
    assert workload.title
    assert workload.network
    assert len(workload.description) > 80
    assert 1 <= len(workload.settings) <= 9
    assert workload.margin > 0
    assert workload.trials == 0 or workload.trials.bit_count() == 1
    for name, options in workload.settings.items():
        assert registry.Recipe(name, options).resolved()


@pytest.mark.parametrize("declared", ALL, ids=named)
@pytest.mark.parametrize("preset", PRESETS)
def test_targets_are_three_from_easy_to_hard_and_further_apart_than_the_margin(declared: Declared, preset: str) -> None:
    workload = declared(preset)
    goodness = [workload.metric.sign * target for target in workload.targets]
    assert len(goodness) == 3
    assert goodness == sorted(goodness)
    gaps = [harder - easier for easier, harder in pairwise(goodness)]
    assert min(gaps) >= workload.margin * (1 - 1e-9)


@pytest.mark.parametrize("declared", ALL, ids=named)
def test_presets_grow(declared: Declared) -> None:
    smoke, quick, full = map(declared, PRESETS)
    work = [size_of(one).train * one.horizon for one in (smoke, quick, full)]
    assert work == sorted(set(work))
    assert smoke.seeds <= min(quick.seeds, full.seeds)
    whole = [size_of(each).train * each.horizon * each.seeds for each in (smoke, quick, full)]
    assert whole == sorted(set(whole))
    assert smoke.trials <= quick.trials <= full.trials
    assert smoke.metric == quick.metric == full.metric
    assert smoke.settings == quick.settings == full.settings


@pytest.mark.parametrize("declared", ALL, ids=named)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_fits_the_data_and_leaves_no_batch_of_one_to_batch_normalisation(
    declared: Declared, preset: str
) -> None:
    workload = declared(preset)
    data = data_of(workload.data)
    sizes = size_of(workload).fitted(data)
    assert data.fallback is not None or sizes == size_of(workload)
    normalises = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in workload.model().modules())
    stand_in = digits.stand_in("anything", 28, "")
    for used in (size_of(workload), size_of(workload).fitted(stand_in)):
        assert min(used.train, used.validation, used.test) > 0
        assert not normalises or used.train % workload.batch_size != 1


@pytest.mark.parametrize("declared", ALL, ids=named)
def test_data_bear_a_fingerprint_and_load_alike_twice(declared: Declared) -> None:
    workload = declared("smoke")
    once, twice = data_of(workload.data), data_of(workload.data, time=2)
    assert once.sha256
    assert all(len(digest) == 64 for digest in once.sha256.values())
    assert once.sha256 == twice.sha256
    assert once.test.fingerprint() == twice.test.fingerprint()


@pytest.mark.parametrize("declared", ALL, ids=named)
def test_a_model_draws_from_the_global_generator_alone(declared: Declared) -> None:
    task = task_on(declared("smoke"))
    once, again = seeded(task).state_dict(), seeded(task).state_dict()
    assert all(torch.equal(once[name], again[name]) for name in once)


@pytest.mark.parametrize("declared", ALL, ids=named)
def test_loss_is_a_scalar_and_the_metric_has_a_value_for_every_example(declared: Declared) -> None:
    """The gradient of a batch is sparse exactly where the workload says that an optimizer must cope with that."""
    workload = declared("smoke")
    task = task_on(workload)
    model = seeded(task)
    inputs, targets = task.splits.train.batch(slice(0, SAMPLE))
    outputs = model(inputs)
    loss = task.loss(outputs, targets)
    assert loss.shape == ()
    if task.metric.of is not None:
        assert task.metric.of(outputs, targets).shape == (SAMPLE,)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.is_sparse == ("sparse" in workload.needs) for gradient in gradients)


@pytest.mark.parametrize("declared", ALL, ids=named)
def test_an_untrained_model_meets_no_target(declared: Declared) -> None:
    smoke = declared("smoke")
    task = task_on(smoke)
    _, merit = evaluate(seeded(task), task.splits.validation, task, "fp32")
    easiest = [declared(preset).targets[0] for preset in PRESETS]
    assert not any(meets(smoke.metric, merit, target) for target in easiest)


@pytest.mark.every(3)
@pytest.mark.parametrize("declared", ALL, ids=named)
def test_a_smoke_training_with_the_first_setting_lowers_the_loss(declared: Declared) -> None:
    """The loss of a batch, before and after the whole training."""
    spec, task = smoke_trial(declared, next(iter(declared("smoke").settings)))
    inputs, targets = task.splits.train.batch(slice(0, 64))

    class Losses(Watcher):
        measures = False
        seen: ClassVar[list[float]] = []

        def begun(self, run: Run) -> None:
            self.looped(run)

        def looped(self, run: Run) -> None:
            self.seen.append(task.loss(run.loop.keep["model"](inputs), targets).item())

    perform(task, spec, Losses())
    before, after = Losses.seen
    assert after < before


def test_the_reference_network_has_exactly_the_published_number_of_parameters() -> None:
    model = workloads.find("fashion-mnist")().model()
    assert sum(parameter.numel() for parameter in model.parameters()) == 474_670
    shapes = shapes_through(model, torch.zeros(2, 1, 28, 28))
    pooled = [shape for layer, shape in zip(model, shapes, strict=True) if isinstance(layer, nn.MaxPool2d)]
    assert pooled == [(72, 13, 13), (256, 5, 5), (128, 1, 1)]
    assert shapes[-1] == (10,)


def shapes_through(model: nn.Module, outputs: Tensor) -> list[tuple[int, ...]]:
    shapes = []
    for layer in model:
        outputs = layer(outputs)
        shapes.append(tuple(outputs.shape[1:]))
    return shapes


def norm(width: int) -> int:
    return 2 * width


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


RESNET_8 = {
    "stem": 9 * 1 * 16 + norm(16),
    "first": 2 * (9 * 16 * 16 + norm(16)),
    "second": 9 * 16 * 32 + norm(32) + 9 * 32 * 32 + norm(32) + 16 * 32 + norm(32),
    "third": 9 * 32 * 64 + norm(64) + 9 * 64 * 64 + norm(64) + 32 * 64 + norm(64),
    "scores": linear(64, 10),
}
TRANSFORMER_BLOCK = norm(64) + linear(64, 3 * 64) + linear(64, 64) + norm(64) + linear(64, 4 * 64) + linear(4 * 64, 64)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet8", sum(RESNET_8.values())),
        ("char-transformer", 256 * 64 + 64 * 64 + 2 * TRANSFORMER_BLOCK + norm(64) + 64 * 256),
        ("char-lstm", 256 * 32 + 4 * (32 * 128 + 128 * 128 + 2 * 128) + linear(128, 256)),
        ("digits-mlp", linear(64, 64) + linear(64, 64) + linear(64, 10)),
        ("logistic-regression", linear(784, 10)),
        ("matrix-factorisation", (1_000 + 500) * 4),
        ("matrix-factorisation-dense", (1_000 + 500) * 4),
    ],
)
def test_networks_have_the_parameters_that_their_papers_layers_add_up_to(name: str, parameters: int) -> None:
    model = workloads.find(name)().model()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_dense_gradients_are_the_sparse_ones_with_zeros_for_the_other_rows() -> None:
    found: list[list[Any]] = []
    for name in ("matrix-factorisation", "matrix-factorisation-dense"):
        made = workloads.find(name).workload("smoke")
        torch.manual_seed(0)
        model = made.model()
        inputs, targets = data_of(made.data).train.batch(slice(0, made.batch_size))
        loss: Any = made.loss(model(inputs), targets)
        loss.backward()
        found.append([p.grad for p in model.parameters()])
    for sparse, dense in zip(*found, strict=True):
        assert sparse.is_sparse
        assert not dense.is_sparse
        assert torch.equal(sparse.to_dense(), dense)
        assert 0 < dense.abs().sum(1).count_nonzero() <= 64 < len(dense)


def test_the_residual_network_halves_the_image_twice() -> None:
    shapes = shapes_through(workloads.find("resnet8")().model(), torch.zeros(2, 1, 28, 28))
    assert [shape for shape in shapes if len(shape) == 3][-4:] == [(16, 28, 28), (32, 14, 14), (64, 7, 7), (64, 1, 1)]


@pytest.mark.parametrize("name", ["char-transformer", "char-lstm"])
def test_a_character_is_predicted_from_those_before_it(name: str) -> None:
    with seeds.GlobalStream("init", 0).active():
        model = workloads.find(name)().model().eval()
    symbols = torch.randint(0, 256, (2, 64), generator=torch.Generator().manual_seed(0))
    changed = symbols.clone()
    changed[:, 40] = (changed[:, 40] + 1) % 256
    with torch.no_grad():
        before, after = model(symbols), model(changed)
    torch.testing.assert_close(before[:, :40], after[:, :40])
    moved = (before - after).abs().amax(dim=2)[:, 40:]
    assert (moved[:, :8] > 0).all()  # further on a recurrent network forgets it, below float32's last digit


@pytest.mark.parametrize("name", ["char-transformer", "char-lstm"])
def test_the_characters_metric_is_the_loss_in_bits(name: str) -> None:
    workload = workloads.find(name)()
    targets = torch.tensor([[3, 7], [0, 255]])
    equal = torch.zeros(2, 2, 256)
    sure = 100.0 * nn.functional.one_hot(targets, 256)
    assert workload.metric.of is not None
    assert workload.metric.of(equal, targets).tolist() == pytest.approx([8.0, 8.0])
    assert workload.metric.of(sure, targets).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert workload.loss(equal, targets).item() == pytest.approx(math.log(256))


def test_the_autoencoder_is_to_return_the_image_that_it_was_given() -> None:
    workload = workloads.find("autoencoder")("smoke")
    inputs, targets = task_on(workload).splits.train.batch(slice(0, SAMPLE))
    assert workload.metric.of is not None
    assert workload.metric.of(inputs.flatten(1), targets).tolist() == pytest.approx([0.0] * SAMPLE, abs=1e-9)
    off = workload.metric.of(inputs.flatten(1) + 0.5, targets)
    assert off.tolist() == pytest.approx([784 * 0.25] * SAMPLE, rel=1e-5)
    assert workload.loss(inputs.flatten(1) + 0.5, targets).item() == pytest.approx(784 * 0.25, rel=1e-5)


def test_the_reference_study_has_the_nine_optimizers_in_the_published_order() -> None:
    workload = workloads.find("fashion-mnist")()
    names = ["sgd", "momentum", "nag", "adagrad", "rmsprop", "adadelta", "adam", "adamax", "nadam"]
    assert list(workload.settings) == names
    assert workload.published is not None
    assert list(workload.published.rows) == names
    labels = [one.label for one in Request(workloads.find("fashion-mnist")).configs]
    assert not any("[" in label for label in labels)


def test_the_presets_of_the_reference_study() -> None:
    quick, full = (workloads.find("fashion-mnist")(preset) for preset in ("quick", "full"))
    assert quick.sizes == Sizes(1_200, 400, 1_000)
    assert (quick.horizon, quick.seeds, quick.trials, quick.batch_size) == (2, 9, 0, 64)
    assert quick.seeds >= seeds_for_a_verdict(len(quick.settings) - 1)  # else no comparison could be decided
    assert full.sizes == Sizes(55_000, 5_000, 10_000)
    assert (full.horizon, full.trials, full.batch_size) == (5, 0, 256)


FAMILIES = [
    ("full-batch", "mini-batch", "single-example"),
    ("fashion-mnist-full-batch", "fashion-mnist-batch-256", "fashion-mnist-batch-2"),
]


@pytest.mark.parametrize("names", FAMILIES, ids=str)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_members_of_a_family_differ_in_the_batch_size_alone(names: Sequence[str], preset: str) -> None:
    family = [workloads.find(name)(preset) for name in names]
    assert len({(one.data, one.model, one.loss, one.horizon, str(one.sizes)) for one in family}) == 1
    assert len({str(one.settings["sgd"]) for one in family}) == 1
    assert family[0].batch_size >= size_of(family[0]).train


def test_an_unknown_workload_gets_the_close_match_and_the_list() -> None:
    with pytest.raises(UsageError, match=r"unknown workload 'fashion'; did you mean 'fashion-mnist'\?.*digits"):
        workloads.find("fashion")
