"""`steepest trace` and `steepest list surfaces`: table, pictures, JSON, mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest

FEW = ("--budget", "8", "--rates", "2")


def test_the_table_has_a_row_for_every_optimizer(steepest: Any) -> None:
    answer = steepest("trace", "bowl", "-o", "sgd[lr=0.5]", "-o", "adam", "-o", "sophia", "-o", "lbfgs", *FEW)
    assert answer.code == 0, answer.err
    title, head, sgd, adam, lbfgs = answer.out.splitlines()
    assert title.endswith("(bowl), 8 gradient evaluations")
    assert head.split() == ["optimizer", "rate", "chosen", "value", "evaluations", "to", "threshold", "distance"]
    assert sgd.split() == ["SGD[lr=0.5]", "0.5", "given", "2.88e-05", "8", "5", "0.00758"]
    assert adam.split()[2] == "tuned"
    assert lbfgs.split()[1:3] == ["–", "own"]
    assert "note: Sophia is skipped: it is fed with estimates" in answer.err


def test_pictures_json_and_starts(steepest: Any) -> None:
    files = ("--out", "paths.png", "--out", "paths.svg")
    answer = steepest("trace", "booth", "--starts", "2", "--lr", "0.05", "--json", *FEW, *files)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert [path["optimizer"] for path in found["paths"]] == ["SGD", "SGD", "Momentum", "Momentum", "Adam", "Adam"]
    assert {path["chosen"] for path in found["paths"]} == {"given"}
    assert [path["start"] for path in found["paths"]][:2] == ["(-4, 0)", "(5, 5.5)"]
    assert Path("paths.png").read_bytes().startswith(b"\x89PNG")
    assert Path("paths.svg").read_bytes().startswith(b"<?xml")
    one = steepest("trace", "booth", "-o", "sgd", "--start", "0,0", "--start", "(1, 2)", "--json", *FEW)
    assert [path["start"] for path in json.loads(one.out)["paths"]] == ["(0, 0)", "(1, 2)"]


def test_lists(steepest: Any) -> None:
    listed = steepest("list", "surfaces").out
    assert listed == steepest("trace", "--list").out
    assert "rosenbrock" in listed
    entries = {entry["name"]: entry for entry in json.loads(steepest("list", "surfaces", "--json").out)}
    assert entries["ravine"]["options"]["condition"] == {
        "default": 100.0,
        "meaning": "ratio κ of the two curvatures",
        "low": 1.0,
        "high": 1e8,
    }
    assert "1960" in entries["rosenbrock"]["source"]


def test_a_function_in_a_file(steepest: Any) -> None:
    Path("mine.py").write_text("def f(p):\n    return (p ** 4).sum()\n", encoding="utf-8")
    answer = steepest("trace", "mine.py:f", "-o", "sgd", *FEW)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[0] == "mine:f (mine:f), 8 gradient evaluations"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name a surface, such as rosenbrock: see `steepest list surfaces`"),
        (("rosenbrok",), "unknown surface 'rosenbrok'; did you mean 'rosenbrock'? Choose from ackley"),
        (("bowl", "-o", "admm"), "unknown optimizer 'admm'; did you mean 'adam'?"),
        (("bowl", "--start", "a,b"), "--start takes numbers, separated by commas, such as -1.2,1, not 'a,b'"),
        (("bowl", "--start", "nan,1"), "the start (nan, 1) is not finite"),
        (("reddi", "--start", "3"), "the start (3) is outside of reddi"),
        (("bowl", "--out", "x.htm"), "unknown kind of file 'htm'"),
        (("bowl", "--budget", "0"), "budget must be a whole number of at least 1"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(steepest: Any, arguments: tuple[str, ...], words: str) -> None:
    answer = steepest("trace", *arguments)
    assert answer.code == 2
    assert answer.err.startswith("Error: ")
    assert words in answer.err
    assert answer.err.count("\n") == 1


def test_maps(steepest: Any) -> None:
    answer = steepest("trace", "saddle", "-o", "sgd", "--basins", "basins.png", *FEW)
    assert (answer.code, answer.out) == (0, ""), answer.err
    assert answer.err == "note: written: basins.png\n"
    assert Path("basins.png").read_bytes().startswith(b"\x89PNG")
    wrong = steepest("trace", "ravine", "-o", "sgd", "--speed-map", "speeds.png", "--over", "conditon", *FEW)
    assert (wrong.code, "did you mean 'condition'?" in wrong.err) == (2, True)
    assert steepest("trace", "saddle", "--basins", "basins.gif").code == 2
