"""The surfaces: their values against NumPy's, their gradients, their minima, their options, and users' own."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from steepest.landscapes import Option, Surface, sources, surface
from steepest.landscapes import surfaces as package
from steepest.landscapes.declaration import Declared, Draw
from steepest.landscapes.surfaces import surfaces
from steepest.study.errors import UsageError

SURFACES = surfaces()
E, PI = math.e, math.pi


def ravine(x: float, y: float, condition: float = 100, degrees: float = 30) -> float:
    turn = np.exp(-1j * np.radians(degrees)) * (x + 1j * y)
    return float(0.5 * (turn.real**2 + condition * turn.imag**2))


ORACLES: dict[str, Callable[[float, float], float]] = {
    "bowl": lambda x, y: 0.5 * abs(complex(x, y)) ** 2,
    "ravine": ravine,
    "noisy-ravine": lambda x, y: ravine(x, y, 30),
    "rosenbrock": lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
    "beale": lambda x, y: sum((c - x * (1 - y**k)) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))),
    "himmelblau": lambda x, y: (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2,
    "booth": lambda x, y: 5 * x**2 + 5 * y**2 + 8 * x * y - 34 * x - 38 * y + 74,
    "rastrigin": lambda x, y: 20 + sum(t**2 - 10 * np.cos(2 * PI * t) for t in (x, y)),
    "ackley": lambda x, y: (
        -20 * np.exp(-0.2 * np.sqrt(0.5 * (x**2 + y**2)))
        - np.exp(0.5 * (np.cos(2 * PI * x) + np.cos(2 * PI * y)))
        + E
        + 20
    ),
    "styblinski-tang": lambda x, y: 0.5 * sum(t**4 - 16 * t**2 + 5 * t for t in (x, y)),
    "saddle": lambda x, y: x**2 - y**2 + y**4 / 4,
    "monkey-saddle": lambda x, y: (complex(x, y) ** 3).real + abs(complex(x, y)) ** 4 / 4,
    "cliff": lambda x, y: 0.1 * ((x + 1) ** 2 + y**2) + 4 / (1 + np.exp(-30 * x)),
    "narrow-and-wide": lambda x, y: min(12.5 * ((x + 1) ** 2 + y**2), 0.5 * ((x - 1) ** 2 + y**2)),
    "scalar-network": lambda x, y: 0.5 * (x * y - 1) ** 2,
    "rare-feature": lambda x, y: 0.5 * (0.95 * (x - 1) ** 2 + 0.05 * (y - 1) ** 2),
}
"""The functions of two numbers, written from their papers in NumPy's float64."""

MATRICES = {"least-squares", "linear-network", "reddi"}
POINTS = ((0.3, -0.7), (-1.4, 0.9), (1.25, 1.75), (-0.1, -1.6))


def test_every_surface_has_an_oracle() -> None:
    assert set(SURFACES) == set(ORACLES) | MATRICES


@pytest.mark.parametrize("name", ORACLES)
def test_values_are_those_of_the_paper(name: str) -> None:
    made = SURFACES[name]()
    for point in POINTS:
        assert made.at(point) == pytest.approx(ORACLES[name](*point), rel=1e-13, abs=1e-13)
    many = made.values(torch.tensor(POINTS, dtype=torch.float64))
    assert many.tolist() == pytest.approx([ORACLES[name](*point) for point in POINTS], rel=1e-13, abs=1e-13)


def test_known_values() -> None:
    assert SURFACES["rosenbrock"]().at((-1.2, 1.0)) == pytest.approx(24.2)  # Moré, Garbow and Hillstrom 1981
    assert SURFACES["himmelblau"]().at((0.0, 0.0)) == 170
    assert SURFACES["styblinski-tang"]().floor == pytest.approx(-78.33233140754282, abs=1e-12)
    assert SURFACES["beale"]().at((0.0, 0.0)) == 14.203125
    assert SURFACES["monkey-saddle"]().floor == -6.75


@pytest.mark.parametrize("name", SURFACES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    made = SURFACES[name]()
    point = np.array(made.starts[-1]) + 0.013
    params = [part.requires_grad_() for part in made.split(torch.tensor(point))]
    made.value(*params).backward()
    gradient = torch.cat([part.grad.flatten() for part in params if part.grad is not None]).numpy()
    h = 1e-5
    around = [[made.at(tuple(point + sign * h * unit)) for sign in (1, -1)] for unit in np.eye(made.size)]
    assert gradient == pytest.approx([(up - down) / (2 * h) for up, down in around], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", sorted(set(SURFACES) - {"reddi"}))  # its minimum is at the end of an interval
def test_minima_are_stationary_and_lowest_around(name: str) -> None:
    made = SURFACES[name]()
    generator = np.random.default_rng(0)
    for minimum in made.minima:
        params = [part.requires_grad_() for part in made.split(torch.tensor(minimum, dtype=torch.float64))]
        made.value(*params).backward()
        assert max(float(part.grad.abs().max()) for part in params if part.grad is not None) < 1e-10
        assert made.at(minimum) == pytest.approx(made.floor, abs=1e-12)
        for _ in range(20):
            step = generator.normal(size=made.size)
            assert made.at(tuple(np.array(minimum) + 0.01 * step / np.linalg.norm(step))) > made.at(minimum)
    for start in made.starts:
        assert made.at(start) > (made.floor or 0.0) + 1e-3


def test_the_lowest_value_of_the_linear_network_is_reached() -> None:
    made = SURFACES["linear-network"]()
    target = made.value.keywords["target"]  # type: ignore[attr-defined]
    assert float(made.value(torch.eye(4, dtype=torch.float64), target)) == made.floor == 0


@pytest.mark.parametrize("name", SURFACES)
def test_what_a_surface_declares(name: str) -> None:
    made = SURFACES[name]()
    assert made.title
    assert "=" in made.formula
    assert re.search(r"\b(1[89]|20)\d\d\b", made.source)  # a year
    assert len(made.starts) >= 2
    assert all(len(point) == made.size for point in (*made.starts, *made.minima))
    if made.window:
        (left, right), (bottom, top) = made.window
        for x, y in (*made.starts, *made.minima):
            assert left < x < right
            assert bottom < y < top
    for start in made.starts:
        sources.check_start(made, start)


def test_a_new_file_is_a_new_surface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(package.__file__).with_name("bowl.py").read_text(encoding="utf-8").replace("def bowl", "def dish")
    (tmp_path / "dish.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    found = package.surfaces.__wrapped__()
    assert set(found) == {*SURFACES, "dish"}


def test_noise_depends_on_the_seed_and_the_step_only() -> None:
    made = SURFACES["noisy-ravine"](noise=2.0)
    p = torch.tensor([0.5, -0.25], dtype=torch.float64)
    draws = [Draw(step, seed) for seed in (0, 1) for step in range(500)]
    seen = [made.loss(draw, [p.requires_grad_()]) for draw in draws]
    slopes = np.array([torch.autograd.grad(loss, p)[0].numpy() for loss in seen])
    assert made.loss(Draw(7, 0), [p]) == seen[7]
    assert len(np.unique(slopes[:, 0])) == len(draws)
    true = torch.autograd.grad(made.value(p), p)[0].numpy()
    assert slopes.mean(0) == pytest.approx(true, abs=4 * 2 / math.sqrt(len(draws)))
    assert slopes.std(0) == pytest.approx([2, 2], rel=0.1)


def test_the_mean_of_rare_examples_is_the_value() -> None:
    made = SURFACES["rare-feature"](rarity=0.25)
    p = torch.tensor([0.0, 3.0], dtype=torch.float64)
    seen = np.array([float(made.loss(Draw(step, 3), [p])) for step in range(1000)])
    assert seen.mean() == pytest.approx(made.at((0.0, 3.0)) + 0.5**2 / 2, abs=4 * seen.std() / math.sqrt(1000))


def test_the_mean_over_a_period_is_the_value() -> None:
    made = SURFACES["reddi"](c=4.0)
    p = torch.tensor([0.5], dtype=torch.float64)
    assert [float(made.loss(Draw(step, 0), [p])) for step in range(4)] == [2, -0.5, -0.5, 2]
    assert made.at((0.5,)) == pytest.approx((4 - 2) / 3 * 0.5)


def test_options() -> None:
    made = sources.find("Ravine[condition=10,rotation=0]")
    assert (made.label, made.at((2.0, 1.0))) == ("ravine[condition=10,rotation=0]", 7)
    assert sources.find("ravine[condition=100]").label == "ravine"
    assert sources.find("styblinski_tang").name == "styblinski-tang"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rosenbrok", "unknown surface 'rosenbrok'; did you mean 'rosenbrock'? Choose from ackley, beale"),
        ("ravine[conditio=3]", "no option 'conditio'; did you mean 'condition'? (it has: condition, rotation)"),
        ("booth[a=3]", "booth has no option 'a' (it has none)"),
        ("ravine[condition=0]", "condition of ravine must be a number from 1 to 1e+08 (ratio κ of the two curvatures)"),
        ("ravine[condition=nan]", "must be a number from 1 to 1e+08"),
        ("ravine[condition=true]", "must be a number from 1 to 1e+08"),
        ("ravine[condition=wide]", "not 'wide'"),
        ("ravine[", "cannot read 'ravine['; write NAME or NAME[key=value,...], such as ravine[condition=100]"),
        ("mine.py", "mine.py is a file; name the function in it: mine.py:NAME"),
        ("nowhere.py:f", "there is no file nowhere.py"),
        (3, "a surface is a name, FILE.py:NAME or a function, not 3"),
    ],
)
def test_mistakes_in_a_name(text: Any, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        sources.find(text)
    assert words in str(raised.value)


OWN = '''
import math
import torch
from steepest.landscapes import Option, Surface, surface

def f(p):
    x, y = p
    return x ** 2 + 3 * (y - 1) ** 2

f.starts = [(2, 2), (1.0, -1.0)]
f.minima = [(0, 1)]
f.window = (-3, 3), (-2, 4)

def plain(p):
    return (p * p).sum()

@surface(a=Option(2.0, "curvature", 1.0, 10.0))
def mine(a):
    """A bowl of mine."""
    return Surface(lambda p: a * (p * p).sum(0) / 2, "f = x", "2026", ((1.0, 1.0),), ((0.0, 0.0),), ((-2, 2), (-2, 2)))

def not_scalar(p):
    return p * p

def a_number(p):
    return p[0].item()

def detached(p):
    return (p * p).sum().detach()

def raises(p):
    return p[5]

seven = 7
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN, encoding="utf-8")


@pytest.mark.usefixtures("own")
def test_a_function_of_the_users() -> None:
    made = sources.find("own.py:f")
    assert (made.name, made.at((2, 2)), made.floor) == ("own:f", 7, 0)
    assert (made.starts, made.minima) == (((2.0, 2.0), (1.0, -1.0)), ((0.0, 1.0),))
    assert made.window == ((-3.0, 3.0), (-2.0, 4.0))
    assert sources.find("own.py:plain").floor is None
    assert sources.find("own.py:mine[a=3]").at((1.0, 1.0)) == 3


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("g", "own.py has no function 'g'; a surface is a function of one tensor of two numbers"),
        ("plane", "did you mean 'plain'?"),
        ("seven", "own.py has no function 'seven'"),
        ("f[a=3]", "own.py:f takes no options; put @surface(...) above it"),
        ("mine[b=3]", "mine has no option 'b' (it has: a)"),
        ("not_scalar", "must return one number as a 0-dim tensor; it returned a tensor of shape (2,)"),
        ("a_number", "must return one number as a 0-dim tensor; it returned float"),
        ("detached", "has no gradient: it must be computed from its argument by torch's differentiable operations"),
        ("raises", "own:raises stopped with IndexError"),
    ],
)
def test_mistakes_in_a_function_of_the_users(name: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        sources.find(f"own.py:{name}")
    assert words in str(raised.value)


def with_attributes(**attributes: Any) -> Callable[[Tensor], Tensor]:
    def function(p: Tensor) -> Tensor:
        return (p * p).sum()

    vars(function).update(attributes)
    return function


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"window": ((2, -2), (0, 1))}, "a window is ((left, right), (bottom, top)) with left < right"),
        ({"window": 3}, "a window is ((left, right), (bottom, top))"),
        ({"starts": [("a", 1)]}, "a point is a list of numbers, such as (-1.5, 1), not ('a', 1)"),
        ({"starts": [(1, 2, 3)]}, "a start has two numbers"),
    ],
)
def test_mistakes_in_a_functions_attributes(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        sources.find(with_attributes(**attributes))
    assert words in str(raised.value)


def test_a_function_that_torch_cannot_run_on_many_points_is_called_for_each() -> None:
    def branches(p: Tensor) -> Tensor:
        return (p * p).sum() if p[0] > 0 else p.abs().sum()

    found = sources.find(branches).values(torch.tensor([[1.0, 2.0], [-1.0, 2.0]], dtype=torch.float64))
    assert found.tolist() == [5, 3]


def test_declarations_are_found_in_python_too() -> None:
    @surface(a=Option(1.0, "height", 0.0, 2.0))
    def hill(a: float) -> Surface:
        """A hill."""
        return Surface(lambda p: a - (p * p).sum(0), "f = 1", "2026", ((0.1, 0.1),))

    assert isinstance(hill, Declared)
    assert sources.find(hill).title == "A hill"
    assert sources.find(hill(a=2.0)).at((0.0, 0.0)) == 2
