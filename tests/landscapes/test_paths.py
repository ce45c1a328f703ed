"""Paths: to the bit those of a plain loop, paid for in gradients, and ended with a reason."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import steepest
from steepest.landscapes import sources, trace
from steepest.landscapes.declaration import Draw, Point, Surface
from steepest.landscapes.paths import BEYOND, UnsuitedError, try_step, walk
from steepest.landscapes.plane import plane_of
from steepest.study.optimizers.config import parse_config
from steepest.wrappers import SAM

Make = Callable[[list[Tensor]], torch.optim.Optimizer]


def walked(text: str, surface: Any = "rosenbrock", budget: int = 30, start: Point | None = None, seed: int = 0) -> Any:
    found = sources.find(surface)
    return walk(found, parse_config(text, {}), start or found.starts[0], budget=budget, seed=seed)


def plain_loop(make: Make, surface: Surface, steps: int, seed: int = 0) -> tuple[list[list[float]], list[float]]:
    """The loop that anybody would write: positions and values after every step."""
    params = [
        part.clone().requires_grad_() for part in surface.split(torch.tensor(surface.starts[0], dtype=torch.float64))
    ]
    optimizer = make(params)
    positions, values = [], []
    for step in range(steps + 1):
        positions.append(torch.cat([p.detach().flatten() for p in params]).tolist())
        values.append(surface.value(*params).item())

        def closure() -> Any:
            optimizer.zero_grad()
            loss = surface.loss(Draw(step, seed), params)  # noqa: B023
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)
        if surface.box:
            with torch.no_grad():
                for p in params:
                    p.clamp_(*surface.box)
    return positions, values


@pytest.mark.parametrize(
    ("text", "make", "surface", "price"),
    [
        ("sgd[lr=0.001]", lambda p: torch.optim.SGD(p, lr=0.001), "rosenbrock", 1),
        ("adam[lr=0.1]", lambda p: steepest.create("adam", p, lr=0.1), "rosenbrock", 1),
        ("torch.optim:NAdam[lr=0.1]", lambda p: torch.optim.NAdam(p, lr=0.1), "beale", 1),
        ("sam[base=sgd,rho=0.05,lr=0.01]", lambda p: SAM(steepest.create("sgd", p, lr=0.01), rho=0.05), "cliff", 2),
        ("momentum[lr=0.01]", lambda p: steepest.create("momentum", p, lr=0.01), "noisy-ravine", 1),
        ("muon[lr=0.02]", lambda p: steepest.create("muon", p, lr=0.02), "linear-network", 1),
        ("adam[lr=0.1,betas=(0,0.1)]", lambda p: steepest.create("adam", p, lr=0.1, betas=(0, 0.1)), "reddi", 1),
    ],
)
def test_a_path_is_that_of_a_plain_loop_to_the_bit(text: str, make: Make, surface: str, price: int) -> None:
    path, found = walked(text, surface, budget=12 * price), sources.find(surface)
    positions, values = plain_loop(make, found, 12)
    assert path.positions.tolist() == positions
    assert path.values.tolist() == values
    assert path.evaluations.tolist() == [price * step for step in range(13)]
    assert len(set(values)) > 6


def test_lengths_and_rates() -> None:
    path, moved = walked("sgd[lr=0.25]", "bowl", budget=4), np.array([-1.6, 1.1])
    assert path.positions == pytest.approx(np.array([moved * 0.75**step for step in range(5)]))
    assert path.gradient_norms == pytest.approx([np.linalg.norm(moved) * 0.75**step for step in range(4)])
    assert path.effective_rates == pytest.approx([0.25] * 4)
    assert path.step_lengths == pytest.approx(0.25 * path.gradient_norms)
    assert path.ended == ""


def test_lbfgs_pays_for_every_gradient() -> None:
    path = walked("lbfgs[max_iter=4]", budget=30)
    assert path.evaluations.tolist()[:4] == [0, 4, 8, 12]
    assert path.evaluations[-1] <= 30


def test_a_step_that_would_exceed_the_budget_does_not_count() -> None:
    long, short = walked("sam[base=sgd,lr=0.001]", budget=8), walked("sam[base=sgd,lr=0.001]", budget=7)
    assert long.evaluations.tolist() == [0, 2, 4, 6, 8]
    assert short.evaluations.tolist() == [0, 2, 4, 6]
    assert short.positions.tolist() == long.positions[:4].tolist()


def test_a_path_ends_at_the_last_finite_point() -> None:
    path = walked("sgd[lr=1]", "rosenbrock", budget=30)
    assert path.is_lost
    assert path.ended == f"beyond {BEYOND:.0e} at evaluation {len(path.evaluations)}"
    assert np.isfinite(path.values).all()
    assert path.values.max() <= BEYOND

    def root(p: Tensor) -> Tensor:
        return p.sum().sqrt()

    ended = walked("sgd[lr=3]", root, start=(1.0, 1.0))
    assert ended.ended.startswith("not finite at evaluation ")
    assert ended.is_lost
    assert np.isfinite(ended.positions).all()


def test_a_line_search_that_finds_nothing_ends_the_path_with_its_words() -> None:
    text = "steepestdescent[line_search=exact]"
    path = walked(text, "saddle", start=(1.0, 0.02), budget=40)
    assert re.match(r"the curvature along the gradient is .* not positive.* \(at evaluation 4\)$", path.ended)
    assert len(path.values) > 1
    assert not path.is_lost
    with pytest.raises(UnsuitedError, match="not positive"):
        try_step(sources.find("saddle"), parse_config(text, {}), (0.0, 0.1), 0)


def test_equal_seeds_give_equal_noise_and_other_seeds_other() -> None:
    one, same, other = (walked("sgd[lr=0.01]", "noisy-ravine", seed=seed) for seed in (0, 0, 1))
    assert one.positions.tolist() == same.positions.tolist()
    assert one.positions[1].tolist() != other.positions[1].tolist()
    both = walked("sam[base=sgd,rho=0.0,lr=0.01]", "noisy-ravine", budget=60)  # both of its gradients see one noise
    assert both.positions.tolist() == one.positions.tolist()


def test_the_generator_of_the_user_stays_as_it_was() -> None:
    before = torch.get_rng_state()
    trace("noisy-ravine", "sgd[lr=0.01]", budget=5, starts=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_to_be_evaluated_are_shown() -> None:
    path = walked("sgdschedulefree[lr=0.1]", "bowl", budget=5)
    params = [torch.tensor([-1.6, 1.1], dtype=torch.float64, requires_grad=True)]
    optimizer: Any = steepest.create("sgdschedulefree", params, lr=0.1)
    for row in path.positions[1:]:
        optimizer.zero_grad()
        sources.find("bowl").value(*params).backward()
        optimizer.step()
        optimizer.eval()
        assert params[0].tolist() == row.tolist()
        optimizer.train()


def test_the_plane_of_a_path_in_many_numbers() -> None:
    found = sources.find("linear-network")
    walks = [walked(text, "linear-network") for text in ("sgd[lr=0.1]", "adam[lr=0.05]")]
    plane = plane_of(found, walks)
    assert plane is not None
    assert plane.directions @ plane.directions.T == pytest.approx(np.eye(2))
    moved = np.concatenate([each.positions - plane.origin for each in walks])
    inside = moved @ plane.directions.T
    assert plane.share == pytest.approx((inside**2).sum() / (moved**2).sum())
    principal = np.linalg.eigvalsh(moved.T @ moved)[::-1]
    assert plane.share == pytest.approx(principal[:2].sum() / principal.sum())
    assert plane.points(plane.coordinates(plane.points(inside))) == pytest.approx(plane.points(inside))


def test_rare_gradients_that_adam_divides_by() -> None:
    """Reddi et al. 2018, theorem 1: Adam ends at +1, AMSGrad at the minimum, -1."""
    adam = walked("adam[betas=(0,0.1),lr=0.05]", "reddi", budget=900)
    amsgrad = walked("amsgrad[betas=(0,0.1),lr=0.05]", "reddi", budget=900)
    assert adam.positions[-6:].min() > 0.9
    assert amsgrad.positions[-6:].max() < -0.9


def test_sam_does_not_settle_in_a_minimum_narrower_than_its_radius() -> None:
    sgd = walked("sgd[lr=0.02]", "narrow-and-wide", budget=200)
    sam = walked("sam[base=sgd,rho=0.5,lr=0.02]", "narrow-and-wide", budget=200)
    assert sgd.positions[-1] == pytest.approx([-1, 0], abs=1e-3)
    assert sam.positions[-1, 0] > -2 / 3  # where the wide minimum's bowl begins


def test_sam_moves_along_minima_to_the_flattest() -> None:
    sgd = walked("sgd[lr=0.02]", "scalar-network", budget=300)
    sam = walked("sam[base=sgd,rho=0.3,lr=0.1]", "scalar-network", budget=600)
    assert sgd.values[-1] < 1e-6
    assert sum(sgd.positions[-1] ** 2) > 4
    assert sam.positions[-30:].mean(0) == pytest.approx([1, 1], abs=0.15)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of every call of a surface's loss."""
    calls: list[int] = []
    loss = Surface.loss

    def counting(self: Surface, draw: Draw, params: list[Tensor]) -> Tensor:
        calls.append(draw.step)
        return loss(self, draw, params)

    monkeypatch.setattr(Surface, "loss", counting)
    return calls


@pytest.mark.parametrize("text", ["sgd[lr=0.01]", "sam[base=sgd,lr=0.01]", "lbfgs", "steepestdescent"])
def test_evaluations_are_the_gradients_that_were_computed(text: str, counted: list[int]) -> None:
    path = walked(text, "himmelblau", budget=60 if text == "lbfgs" else 8)
    asked = sum(step < len(path.step_lengths) for step in counted)
    assert path.evaluations[-1] == asked
    assert not math.isnan(path.values[-1])
