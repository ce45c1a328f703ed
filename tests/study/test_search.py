"""The points of a search: equal for all optimizers, evenly spread, inside the ranges; and files of search spaces."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from steepest.fields import Search
from steepest.study.errors import UsageError
from steepest.study.optimizers.config import parse_config
from steepest.study.planning import search
from steepest.study.planning.search import Choice, Dimension, Range, points, read_spaces, space_of
from steepest.study.records.format import SearchedRange, SearchedValues

UNIT = Range(Search(0.0, 1.0, "linear"))


def cube(dimensions: int, count: int, sampler: str = "sobol") -> list[list[float]]:
    """Return points of the unit cube, with four digits."""
    return [list(one.values()) for one in points({f"x{n}": UNIT for n in range(dimensions)}, count, sampler)]


def space(text: str, *names: str, own: dict[str, Dimension] | None = None, **settings: Any) -> dict[str, Dimension]:
    one = parse_config(text, {text.partition("[")[0]: settings} if settings else {})
    return space_of(one, names, own or {})


def test_the_points_are_these_on_every_machine() -> None:
    both = {"lr": Range(Search(1e-4, 1e-1)), "weight_decay": Range(Search(1e-6, 1e-2))}
    assert points(both, 4, "sobol") == [
        {"lr": 0.0001128, "weight_decay": 0.0008401},
        {"lr": 0.05596, "weight_decay": 2.945e-06},
        {"lr": 0.004285, "weight_decay": 0.003094},
        {"lr": 0.001538, "weight_decay": 8.141e-05},
    ]
    assert points(both, 2, "random") == [
        {"lr": 0.0008796, "weight_decay": 0.001038},
        {"lr": 0.0001074, "weight_decay": 0.0004393},
    ]


@pytest.mark.parametrize("sampler", ["sobol", "random"])
@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_optimizers_with_equally_many_hyperparameters_try_the_same_points_of_the_cube(
    dimensions: int, sampler: str
) -> None:
    reference = cube(dimensions, 16, sampler)
    ranges = {f"y{n}": Range(Search(10.0**-n, 10.0 ** (2 - n))) for n in range(dimensions)}
    for position, found in enumerate(points(ranges, 16, sampler)):
        back = [math.log10(value) / 2 + n / 2 for n, value in enumerate(found.values())]
        assert back == pytest.approx(reference[position], abs=2e-4)  # four significant digits of the value


@pytest.mark.parametrize("dimensions", [1, 2, 4, 7])
@pytest.mark.parametrize("count", [1, 2, 16, 64])
def test_sobol_points_put_one_value_into_each_interval_of_every_dimension(dimensions: int, count: int) -> None:
    for column in zip(*cube(dimensions, count), strict=True):
        # A value within its rounding of a border may have crossed it, so look at it shifted both ways.
        taken = [{math.floor(count * (value + shift)) for shift in (-5e-5, 0, 5e-5)} for value in column]
        assert all(any(n in one for one in taken) for n in range(count))


def test_sobol_points_cover_the_plane_better_than_random_ones() -> None:
    evenly, randomly = (scipy.stats.qmc.discrepancy(cube(2, 64, sampler)) for sampler in ("sobol", "random"))
    assert evenly < randomly / 4


def test_more_points_begin_with_the_fewer_ones() -> None:
    assert cube(3, 32)[:16] == cube(3, 16)


@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_no_points_of_nothing(sampler: str) -> None:
    assert points({}, 16, sampler) == []
    assert points({"lr": UNIT}, 0, sampler) == []
    assert len(points({"lr": UNIT}, 1, sampler)) == 1


def test_random_points_come_in_any_number_and_are_uniform() -> None:
    found = [one[0] for one in cube(1, 1000, "random")]
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01
    search.check("random", 7)


@pytest.mark.parametrize(
    ("count", "near"), [(3, (2, 4)), (5, (4, 8)), (15, (8, 16)), (17, (16, 32)), (23, (16, 32)), (1000, (512, 1024))]
)
def test_sobol_wants_a_power_of_two(count: int, near: tuple[int, int]) -> None:
    told = f"--trials {count} is no power of two.*take --trials {near[0]} or --trials {near[1]}, or --sampler random"
    with pytest.raises(UsageError, match=told):
        search.check("sobol", count)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 1024])
def test_powers_of_two_and_none_are_fine(count: int) -> None:
    search.check("sobol", count)


def test_an_unknown_sampler_is_told() -> None:
    with pytest.raises(UsageError, match=r"unknown sampler 'sobel'; did you mean 'sobol'\? Choose from sobol, random"):
        search.check("sobel", 4)


@pytest.mark.parametrize(
    ("ends", "unit", "value"),
    [
        (Search(1e-4, 1e-1), 0.0, 1e-4),
        (Search(1e-4, 1e-1), 1.0, 1e-1),
        (Search(1e-4, 1e-1), 1 / 3, 1e-3),
        (Search(1e-4, 1e-1), 0.5, 3.162e-3),  # 10 ** -2.5 = 0.0031622..., four significant digits
        (Search(-1.0, 3.0, "linear"), 0.25, 0.0),
        (Search(0.0, 1.0, "linear"), 0.123456, 0.1235),
        (Search(1e-3, 1e-1, complement=True), 0.0, 0.999),
        (Search(1e-3, 1e-1, complement=True), 1.0, 0.9),
        (Search(1e-3, 1e-1, complement=True), 0.5, 0.99),
        (Search(1e-5, 1e-1, complement=True), 0.125, 1 - 3.162e-5),  # the digits are those of 1 - value
        (Search(0.00123444, 1.0), 0.0, 0.00123444),  # rounded it would be under the range
        (Search(0.9, 0.99996, "linear"), 1.0, 0.99996),  # and 1.0 is no beta
    ],
)
def test_values_of_a_range(ends: Search, unit: float, value: float) -> None:
    found = Range(ends).at(unit)
    assert found == pytest.approx(value, rel=1e-12, abs=1e-15)


def test_choices_take_equal_shares_of_the_unit_interval() -> None:
    three = Choice(("a", "b", "c"))
    assert [three.at(unit) for unit in (0.0, 0.33, 0.34, 0.66, 0.67, 0.9999999999999999)] == list("aabbcc")
    assert Choice((7,)).at(0.5) == 7


def test_dimensions_are_written_as_plain_data() -> None:
    assert Choice((0.0, 0.1)).entry() == SearchedValues((0.0, 0.1))
    assert Range(Search(0.1, 1.0)).entry() == SearchedRange(low=0.1, high=1.0, scale="log", complement=False)


def test_what_is_searched() -> None:
    assert list(space("adamw", "lr")) == ["lr"]
    assert list(space("adamw", "all")) == ["lr", "beta1", "beta2", "eps", "weight_decay"]
    assert list(space("adamw", "betas", "lr")) == ["lr", "beta1", "beta2"]  # a tuple's name stands for its entries
    assert list(space("adamw", "beta2")) == ["beta2"]
    assert list(space("adamw", "momentum")) == []
    assert list(space("sgd", "lr", lr=0.5)) == ["lr"]  # the workload's setting is no choice of the user's


def test_what_is_given_is_not_searched() -> None:
    assert list(space("adamw[lr=0.01]", "all")) == ["beta1", "beta2", "eps", "weight_decay"]
    assert list(space("adamw[betas=(0.9,0.99)]", "all")) == ["lr", "eps", "weight_decay"]
    assert list(space("adamw[beta2=0.99]", "all")) == ["lr", "beta1", "eps", "weight_decay"]
    own: dict[str, Dimension] = {"betas": Choice(((0.9, 0.99), (0.9, 0.999))), "eps": UNIT}
    assert list(space("adamw[beta2=0.99]", "all", own=own)) == ["eps"]


def test_the_user_s_space_replaces_the_declared_one() -> None:
    own: dict[str, Dimension] = {"weight_decay": Choice((0.0, 0.1))}
    assert space("adamw", "lr", own=own) == own


def test_a_searched_entry_of_a_tuple_keeps_the_others() -> None:
    one = parse_config("adamw[beta1=0.5]", {"adamw": {"betas": (0.7, 0.8)}})
    assert one.with_options({"beta2": 0.6}).options["betas"] == (0.5, 0.6)
    assert parse_config("adamw", {}).with_options({"beta2": 0.6}).options["betas"] == (0.9, 0.6)


def test_a_name_that_no_optimizer_declares_is_told() -> None:
    found = [parse_config("adamw", {}), parse_config("sgd", {})]
    search.check_searched(["lr", "momentum", "betas", "beta1"], found)
    search.check_searched(["all"], found)
    with pytest.raises(UsageError, match=r"unknown hyperparameter 'momentun'; did you mean 'momentum'\?.*--space FILE"):
        search.check_searched(["lr", "momentun"], found)


def read(tmp_path: Path, text: str) -> dict[str, dict[str, Dimension]]:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return read_spaces(path)


def test_a_file_of_spaces(tmp_path: Path) -> None:
    text = """
    [AdamW]
    lr = { low = 1e-4, high = 1e-1 }
    beta2 = { low = 0.001, high = 0.1, complement = true }
    weight_decay = [0.0, 0.01]
    eps = { low = 0, high = 1, scale = "linear" }
    ["torch.optim:AdamW"]
    betas = [[0.9, 0.95], [0.9, 0.999]]
    ["./my_rules.py:MyOpt"]
    flag = [true, false]
    word = ["a", "b"]
    """
    assert read(tmp_path, text) == {
        "adamw": {
            "lr": Range(Search(1e-4, 1e-1)),
            "beta2": Range(Search(0.001, 0.1, complement=True)),
            "weight_decay": Choice((0.0, 0.01)),
            "eps": Range(Search(0, 1, "linear")),
        },
        "torch.optim:AdamW": {"betas": Choice(((0.9, 0.95), (0.9, 0.999)))},
        "my_rules.py:MyOpt": {"flag": Choice((True, False)), "word": Choice(("a", "b"))},
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[adamw", "is no TOML"),
        ("[torch.optim:AdamW]\nlr = [1]", 'a name with dots or colons must be quoted: ["torch.optim:AdamW"]'),
        ("[my_rules.py:MyOpt]\nlr = [1]", '["my_rules.py:MyOpt"]'),
        ("[torch.optim.AdamW]\nlr = [1]", "unknown optimizer 'torch'"),
        ("[adaam]\nlr = [1]", "did you mean 'adam'"),
        ("[adamw]\nlr = [1]\n[AdamW]\nlr = [2]", "names adamw twice; put all of its hyperparameters under one [AdamW]"),
        ("adamw = 3", "[adamw] must be a table of hyperparameters, such as lr = { low = 1e-4, high = 1e-1 }; not 3"),
        ("[adamw]", "[adamw] must be a table of hyperparameters"),
        (
            "[adamw]\nlr = 0.1",
            "adamw.lr must be a range { low = 1e-4, high = 1e-1 } or a list of values [0.0, 0.1], not 0.1",
        ),
        (
            "[adamw]\nlr = []",
            "adamw.lr must be a range { low = 1e-4, high = 1e-1 } or a list of values [0.0, 0.1], not []",
        ),
        (
            "[adamw]\nlr = { lo = 1, high = 2 }",
            "adamw.lr: unknown entry 'lo'; did you mean 'low'? Choose from low, high,",
        ),
        ("[adamw]\nlr = { low = 1 }", "adamw.lr needs two finite numbers low < high, not low = 1 and high = None"),
        (
            "[adamw]\nlr = { low = 2, high = 1 }",
            "adamw.lr needs two finite numbers low < high, not low = 2 and high = 1",
        ),
        ("[adamw]\nlr = { low = 1, high = 1 }", "adamw.lr needs two finite numbers"),
        (
            "[adamw]\nlr = { low = 1, high = inf }",
            "adamw.lr needs two finite numbers low < high, not low = 1 and high = inf",
        ),
        ("[adamw]\nlr = { low = nan, high = 1 }", "adamw.lr needs two finite numbers"),
        ("[adamw]\nlr = { low = '1', high = 2 }", "adamw.lr needs two finite numbers low < high, not low = '1'"),
        ("[adamw]\nlr = { low = false, high = true }", "adamw.lr needs two finite numbers"),
        (
            "[adamw]\nlr = { low = 0, high = 1 }",
            "scale must be 'linear', or 'log' with low > 0; not 'log' with low = 0",
        ),
        (
            "[adamw]\nlr = { low = 1, high = 2, scale = 'lin' }",
            "scale must be 'linear', or 'log' with low > 0; not 'lin'",
        ),
        ("[adamw]\nlr = { low = 0.1, high = 0.2, complement = 1 }", "complement must be true or false, not 1"),
        ("[adamw]\nlr = [2026-01-01]", "cannot be stored in a record"),
        ("[adamw]\nlr = [1.0, inf]", "adamw.lr=inf cannot be stored in a record"),
    ],
)
def test_mistakes_in_a_file_of_spaces_are_told(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(told)) as caught:
        read(tmp_path, text)
    assert "space.toml" in str(caught.value)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the search space .*nowhere.toml: No such file"):
        read_spaces(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b"# gr\xfc\xdfe\n")
    with pytest.raises(UsageError, match=r"latin.toml is no TOML: .*can't decode"):
        read_spaces(tmp_path / "latin.toml")


def test_a_space_for_an_optimizer_that_takes_no_part_is_told() -> None:
    search.check_names({"adamw": {}}, ["sgd", "adamw"])
    told = r"the search space names 'adam', which takes no part; did you mean 'adamw'\? \(these do: sgd, adamw\)"
    with pytest.raises(UsageError, match=told):
        search.check_names({"adam": {}}, ["sgd", "adamw"])


def test_a_space_from_python_is_made_of_dimensions() -> None:
    wrong: Any = {"adamw": {"lr": (1e-4, 1e-1)}}
    with pytest.raises(UsageError, match=r"'adamw' has lr = \(0\.0001, 0\.1\); write Range\(Search\(1e-4, 1e-1\)\)"):
        search.check_names(wrong, ["adamw"])
