"""Trainings as paths: the weights of a plain loop, the loss of a plain forward pass, the plane, mistakes."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import steepest
from own_work import TASK
from steepest.cli.main import main
from steepest.landscapes import Traced, trace_training
from steepest.landscapes.figures import parts
from steepest.landscapes.plane import heights
from steepest.landscapes.training import EXAMPLES, POINTS
from steepest.study import seeds, user_files
from steepest.study.data import adapt
from steepest.study.data.splits import Sizes, split
from steepest.study.errors import UsageError

SWITCHED = TASK.replace("nn.ReLU()", "nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)")
COUNTING = TASK.replace(
    "def model():\n    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))",
    """class Counting(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += self.training
        return super().forward(x)


def model():
    return Counting()""",
)
LOOP = """
from steepest.study import ACCURACY, experiment


@experiment(metric=ACCURACY)
def mine(run):
    pass
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trained")
    for name, text in (("plain", TASK), ("switched", SWITCHED), ("counting", COUNTING), ("loop", LOOP)):
        (made / f"{name}.py").write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def traced(folder: Path) -> Traced:
    return trace_training(f"{folder / 'plain.py'}", ["sgd[lr=0.5]", "adam[lr=0.02]"], epochs=4, snapshots=5)


def flat(model: nn.Module) -> np.ndarray:
    return torch.cat([param.detach().flatten().double() for param in model.parameters()]).numpy()


def test_a_path_is_that_of_a_plain_loop(traced: Traced, folder: Path) -> None:
    """The loop that anybody would write, with torch's SGD: weights and losses after every fourth step."""
    own = user_files.load(str(folder / "plain.py"))
    data = adapt.load((own.INPUTS, own.TARGETS))
    x, y = split(data, Sizes.usual(data)).train.batch(slice(None))
    with seeds.GlobalStream("init", 0).active():
        model = own.model()
    order, optimizer = seeds.generator("order", 0), torch.optim.SGD(model.parameters(), lr=0.5)
    positions, losses, steps = [flat(model)], [loss_of(model, x, y)], 0
    for _ in range(4):
        for places in torch.split(torch.randperm(len(x), generator=order), 20):
            optimizer.zero_grad()
            cross_entropy(model(x[places]), y[places]).backward()
            optimizer.step()
            steps += 1
            if steps % 4 == 0:
                positions.append(flat(model))
                losses.append(loss_of(model, x, y))
    sgd, adam = traced.paths
    assert len(x) <= EXAMPLES
    assert traced.budget == steps == 20
    assert sgd.evaluations.tolist() == adam.evaluations.tolist() == [0, 4, 8, 12, 16, 20]
    assert sgd.positions == pytest.approx(np.stack(positions), abs=1e-5)
    assert sgd.values == pytest.approx(losses, abs=1e-5)
    assert adam.positions[0].tolist() == sgd.positions[0].tolist() == list(traced.starts[0])
    assert [path.choice.words for path in traced.paths] == ["rate 0.5, given", "rate 0.02, given"]


@torch.no_grad()
def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float(cross_entropy(model(x), y))


def test_the_plane_holds_the_snapshots_of_all_together(traced: Traced) -> None:
    plane = traced.plane
    assert plane is not None
    lowest = min(traced.paths, key=lambda path: path.values.min())
    assert plane.origin.tolist() == lowest.positions[lowest.values.argmin()].tolist()
    moved = np.concatenate([path.positions for path in traced.paths]) - plane.origin
    values, vectors = np.linalg.eigh(moved.T @ moved)
    assert np.abs(vectors[:, -2:].T @ plane.directions.T).max(0) == pytest.approx([1, 1], abs=1e-6)
    assert plane.share == pytest.approx(values[-2:].sum() / values.sum())
    for path in traced.paths:
        assert path.plane == pytest.approx((path.positions - plane.origin) @ plane.directions.T)


def test_the_drawn_loss_is_that_of_the_points_of_the_plane(traced: Traced) -> None:
    assert traced.plane is not None
    x, y, values = heights(traced.surface, traced.plane, traced.window, 200)
    assert values.shape == (POINTS, POINTS)
    for column, row in ((0, 0), (7, 30), (40, 12)):
        (point,) = traced.plane.points(np.array([[x[column], y[row]]]))
        assert values[row, column] == pytest.approx(traced.surface.at(tuple(point.tolist())), rel=1e-5)


def test_equal_runs_are_equal_and_the_page_and_figure_are_drawn(
    traced: Traced, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = trace_training(f"{folder / 'plain.py'}", "adam[lr=0.02]", epochs=4, snapshots=5)
    assert again.paths[0].positions.tolist() == traced.paths[1].positions.tolist()
    other = trace_training(f"{folder / 'plain.py'}", "adam[lr=0.02]", epochs=4, snapshots=5, seed=1)
    assert other.paths[0].positions[0].tolist() != again.paths[0].positions[0].tolist()
    assert "real trainings" in traced.save(tmp_path / "paths.html").read_text("utf-8")
    monkeypatch.setattr(parts, "GRID", 9)
    figure = traced.figure()
    assert "It is a picture, not a study." in " ".join(text.get_text().replace("\n", " ") for text in figure.texts)


def test_the_drawn_loss_has_the_statistics_of_the_examples_and_no_dropout(folder: Path) -> None:
    """On the path and around it: batch normalisation as in training, all other layers as in evaluation."""
    traced = trace_training(f"{folder / 'switched.py'}", "sgd[lr=0.5]", snapshots=3)
    (path,), plane = traced.paths, traced.plane
    assert plane is not None
    own = user_files.load(str(folder / "switched.py"))
    data = adapt.load((own.INPUTS, own.TARGETS))
    x, y = split(data, Sizes.usual(data)).train.batch(slice(None))
    model = own.model().eval()
    (normalising,) = (module for module in model if isinstance(module, nn.BatchNorm1d))
    normalising.train()
    across, up, grid = heights(traced.surface, plane, traced.window, 3)
    around = plane.points(np.array([[across[2], up[0]], [across[0], up[1]]]))
    positions, values = [*path.positions, *around], [*path.values, grid[0, 2], grid[1, 0]]
    for position, value in zip(positions, values, strict=True):
        nn.utils.vector_to_parameters(torch.from_numpy(position).float(), model.parameters())
        assert value == pytest.approx(loss_of(model, x, y), rel=1e-5)
    assert path.values[-1] < path.values[0]


def test_a_run_that_is_lost_ends_where_its_loss_was_finite(folder: Path) -> None:
    lost = trace_training(f"{folder / 'plain.py'}", ["sgd[lr=1e30]", "sgd[lr=0.1]"], epochs=2, snapshots=5)
    assert [path.is_lost for path in lost.paths] == [True, False]
    assert lost.paths[0].ended.startswith("loss is ")
    assert np.isfinite(lost.paths[0].positions).all()


@pytest.mark.parametrize(
    ("file", "optimizer", "words"),
    [
        ("counting", "sgd", "training changes the buffer calls of the model"),
        ("loop", "sgd", "is a training loop of yours, whose loss cannot be drawn"),
        ("plain", "adm", "did you mean 'adam'?"),
        ("plain", "sparseadam", "does not support dense gradients"),
    ],
)
def test_mistakes(folder: Path, file: str, optimizer: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        trace_training(f"{folder / file}.py", optimizer)
    assert words in str(raised.value)


def test_skipped_optimizers_are_named(folder: Path) -> None:
    found: Any = trace_training(f"{folder / 'plain.py'}", ["sgd", "sparseadam"], snapshots=2)
    assert [label for label, _ in found.skipped] == ["SparseAdam"]
    assert steepest.info("sparseadam").needs


def test_steepest_trace_model_prints_a_table_and_writes_pages(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "paths.html"
    arguments = ("trace", "--model", f"{folder / 'plain.py'}", "-o", "sgd[lr=0.5]", "--epochs", "2", "--out", str(page))
    assert command(*arguments) == 0
    told = capsys.readouterr()
    assert "My own task: the loss around real trainings" in told.out
    assert "SGD[lr=0.5]" in told.out
    assert "It is a picture, not a study." in told.err
    assert page.read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "digits", "ravine"), "SURFACE has no effect with --model; leave it out"),
        (("--model", "digits", "--lr", "1"), "--lr has no effect with --model; leave it out; give a rate in brackets"),
        (("--model", "digits", "--start", "1,1", "--budget", "3"), "--budget, --start has no effect with --model"),
        (("--model", "digit"), "did you mean 'digits'?"),
        (("ravine", "--epochs", "3"), "--epochs has no effect with a surface; leave it out"),
        ((), "name a surface, such as rosenbrock"),
    ],
)
def test_mistakes_of_the_command(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("trace", *arguments) == 2
    assert words in capsys.readouterr().err


def command(*arguments: str) -> int:
    """Run `steepest ARGUMENTS` in this process, and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["steepest", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
    return int(stopped.value.code or 0)
