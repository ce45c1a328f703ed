"""Every workload that is found is checked; nothing is listed by hand."""

import pytest
import torch

from steepest import registry
from steepest.study import workloads
from steepest.study.data import adapt, digits
from steepest.study.data.splits import Sizes
from steepest.study.declaration import PRESETS, Declared
from steepest.study.engine import run
from steepest.study.errors import UsageError
from steepest.study.request import Request
from steepest.study.store import StudyFolder

from .support import PlanMaker

ALL = list(workloads.workloads().values())
HERE = [workload for workload in ALL if workload.name != "fashion-mnist"]  # needs no files


def named(workload: Declared) -> str:
    return workload.name


@pytest.mark.parametrize("workload", ALL, ids=named)
def test_a_workload_is_complete(workload: Declared) -> None:
    for made in map(workload, PRESETS):
        assert made.title
        assert len(made.description) > 80
        assert made.settings
        assert made.metric.direction in ("maximize", "minimize")
        for name, options in made.settings.items():
            assert registry.Recipe(name, options).resolved()


@pytest.mark.parametrize("workload", HERE, ids=named)
def test_every_preset_fits_the_data(workload: Declared) -> None:
    data = adapt.load(workload().data)
    for made in map(workload, PRESETS):
        assert made.sizes is not None
        assert made.sizes.fitted(data) == made.sizes


@pytest.mark.parametrize("workload", HERE, ids=named)
def test_the_smoke_study_of_every_workload_finishes(workload: Declared, plan: PlanMaker, tmp_path, silent) -> None:
    made = plan(workload=workload.name)
    tally = run(made, StudyFolder(tmp_path / "study"), silent)
    assert tally.ended == {"finished": len(workload("smoke").settings)}


def test_the_reference_network_has_exactly_the_published_number_of_parameters() -> None:
    model = workloads.find("fashion-mnist")().model()
    assert sum(parameter.numel() for parameter in model.parameters()) == 474_670
    shapes = []
    outputs = torch.zeros(2, 1, 28, 28)
    for layer in model:
        outputs = layer(outputs)
        shapes.append(tuple(outputs.shape[1:]))
    pooled = [shape for layer, shape in zip(model, shapes, strict=True) if isinstance(layer, torch.nn.MaxPool2d)]
    assert pooled == [(72, 13, 13), (256, 5, 5), (128, 1, 1)]
    assert shapes[-1] == (10,)


def test_the_reference_study_has_the_nine_optimizers_in_the_published_order() -> None:
    workload = workloads.find("fashion-mnist")()
    names = ["sgd", "momentum", "nag", "adagrad", "rmsprop", "adadelta", "adam", "adamax", "nadam"]
    assert list(workload.settings) == names
    assert workload.published is not None
    assert list(workload.published.rows) == names
    labels = [one.label for one in Request(workloads.find("fashion-mnist")).contestants]
    assert not any("[" in label for label in labels)


def test_the_presets_of_the_reference_study() -> None:
    quick, full = (workloads.find("fashion-mnist")(preset) for preset in ("quick", "full"))
    assert quick.sizes == Sizes(6_000, 1_000, 2_000)
    assert (quick.horizon, quick.seeds, quick.trials) == (2, 3, 0)
    assert full.sizes == Sizes(55_000, 5_000, 10_000)
    assert (full.horizon, full.trials) == (5, 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_reference_study_fits_the_stand_in(preset: str) -> None:
    """No batch of a single image, which batch normalisation refuses."""
    workload = workloads.find("fashion-mnist")(preset)
    data = digits.stand_in("Fashion-MNIST", 28, "")
    assert workload.sizes is not None
    sizes = workload.sizes.fitted(data)
    assert sizes.train % workload.batch_size != 1
    assert sizes.validation > 0
    assert sizes.test > 0


def test_gradient_descent_differs_in_the_batch_size_alone() -> None:
    full, mini, single = (workloads.find(name)("full") for name in ("full-batch", "mini-batch", "single-example"))
    assert [one.batch_size for one in (full, mini, single)] == [1_137, 32, 1]
    assert full.batch_size == full.sizes.train
    assert full.model is mini.model is single.model
    assert full.settings["sgd"] == mini.settings["sgd"] == single.settings["sgd"]


def test_an_unknown_workload_gets_the_close_match_and_the_list() -> None:
    with pytest.raises(UsageError, match=r"unknown workload 'fashion'; did you mean 'fashion-mnist'\?.*digits"):
        workloads.find("fashion")
