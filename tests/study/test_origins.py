"""Where optimizers come from, what is said about those that cannot be had, and what a record keeps of them."""

import functools
import json
import linecache
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from steepest.study import source_code, user_files
from steepest.study.errors import UsageError
from steepest.study.optimizers import sources
from steepest.study.optimizers.config import OptimizerConfig, parse_config
from steepest.study.optimizers.external import ExternalOptimizer

MY_RULES = '''
import functools

import torch

from steepest import Optimizer, Rule
from steepest.fields import Search, betas, hyper, lr


def sign_descent(p, g, *, lr, beta1, beta2):
    return p - lr * g


class MyOpt(Optimizer):
    """A rule of my own."""

    lr: float = lr(0.02, 1e-3, 1.0)
    betas: tuple[float, float] = betas((0.8, 0.9))
    clip: float = hyper(1.0, "largest step", low=0.0, search=Search(0.5, 2.0, "linear"))
    foreach: bool | None = hyper(None, "executor")
    rule = Rule(sign_descent, "pointwise")


class Averaging(torch.optim.SGD):
    def train(self):
        pass

    def eval(self):
        pass


def factory(params, lr=0.05, fancy=None, layers=(1,), callback=print):
    return torch.optim.SGD(params, lr=lr)


def hands_on(params, **options):
    return torch.optim.RMSprop(params, **options)


def no_rate(params, scale=1.0):
    return torch.optim.SGD(params, lr=scale)


def no_optimizer(params, lr=0.1):
    return list(params)


def nothing():
    return None


class Maker:
    def __call__(self, params, lr=0.3):
        return torch.optim.SGD(params, lr=lr)


maker = Maker()

class Subclass(torch.optim.SGD):
    pass


class Faster(torch.optim.SGD):
    def __init__(self, params, lr=0.5, momentum=0):
        super().__init__(params, lr=lr, momentum=momentum)


class Rigid(torch.optim.SGD):
    def __init__(self, params, **options):
        super().__init__(params, lr=0.5, **options)


Settled = functools.partial(torch.optim.SGD, momentum=0.9)
with_momentum = functools.partial(torch.optim.SGD, momentum=0.9)
NUMBER = 3
'''


@pytest.fixture(autouse=True)
def my_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "my_rules.py"
    path.write_text(MY_RULES)
    return path


def build(text: str, settings: dict[str, Any] | None = None) -> torch.optim.Optimizer:
    return parse_config(text, settings or {}).build(torch.nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("text", "label", "cls", "group"),
    [
        ("torch.optim:AdamW[lr=0.01]", "torch.optim.AdamW[lr=0.01]", "AdamW", {"lr": 0.01, "betas": (0.9, 0.999)}),
        (" torch.optim : AdamW ", "torch.optim.AdamW", "AdamW", {"lr": 0.001}),
        ("torch.optim:SGD[lr=1e-1,nesterov=True,momentum=.5]", None, "SGD", {"nesterov": True, "momentum": 0.5}),
        (
            "torch.optim.adamw:AdamW[betas=(0.8, 0.9),amsgrad=TRUE]",
            None,
            "AdamW",
            {"betas": (0.8, 0.9), "amsgrad": True},
        ),
        ("steepest:AdamW[beta2=0.95]", "steepest.AdamW[betas=(0.9,0.95)]", "AdamW", {"betas": (0.9, 0.95)}),
        ("my_rules.py:MyOpt", "my_rules.MyOpt", "MyOpt", {"lr": 0.02, "betas": (0.8, 0.9)}),
        ("./my_rules.py:MyOpt[beta1=0.5]", "my_rules.MyOpt[betas=(0.5,0.9)]", "MyOpt", {"betas": (0.5, 0.9)}),
        ("my_rules.py:factory[fancy='a, b]',lr=2]", "my_rules.factory[fancy=a, b],lr=2]", "SGD", {"lr": 2}),
        ("my_rules.py:factory[fancy=none]", "my_rules.factory", "SGD", {"lr": 0.05}),
        ("my_rules.py:hands_on[alpha=0.5]", "my_rules.hands_on[alpha=0.5]", "RMSprop", {"alpha": 0.5}),
        ("my_rules.py:maker[lr=-0.0]", "my_rules.maker[lr=-0]", "SGD", {"lr": 0.0}),
        ("my_rules.py:with_momentum", "my_rules.with_momentum", "SGD", {"momentum": 0.9}),
    ],
)
def test_any_class_or_factory_takes_part(text: str, label: str | None, cls: str, group: dict[str, Any]) -> None:
    one = parse_config(text, {})
    made = one.build(torch.nn.Linear(3, 2))
    assert type(made).__name__ == cls
    assert label is None or one.label == label
    assert {key: made.param_groups[0][key] for key in group} == group
    assert made.param_groups[0]["params"][0].shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "torch.optim:Adamm",
            "torch.optim has no class or function 'Adamm'; did you mean 'Adam'? (it has: ASGD, Adadelta,",
        ),
        (
            "my_rules.py:MyOp",
            "my_rules.py has no class or function 'MyOp'; did you mean 'MyOpt'? (it has: Averaging, ",
        ),
        (
            "my_rules.py:NUMBER",
            "my_rules.py:NUMBER is a int and no class or function; name one of my_rules.py (it has:",
        ),
        ("my_rules.py:torch", "my_rules.py:torch is a module and no class or function"),
        ("my_rules.py:", "'my_rules.py:' names no optimizer; write MODULE:NAME or FILE.py:NAME"),
        (":SGD", "':SGD' names no optimizer; write MODULE:NAME or FILE.py:NAME"),
        ("my_rules.py", "my_rules.py is a file; name the optimizer in it: my_rules.py:NAME"),
        ("torch.optim.AdamW", "what is in a module is written MODULE:NAME, here torch.optim:AdamW"),
        ("adaam", "unknown optimizer 'adaam'; did you mean 'adam'?"),
        (
            "my_missing_rules:MyOpt",
            "No module named 'my_missing_rules'; install it, or name a file of yours with its ending, "
            "my_missing_rules.py:MyOpt",
        ),
        (
            "no_such.thing:X",
            "cannot import 'no_such.thing' for the optimizer 'no_such.thing:X': No module named 'no_such'",
        ),
        ("nowhere.py:X", "there is no file nowhere.py; the folder is /"),
        (
            "my_rules.py:nothing",
            "my_rules.py:nothing cannot be called with a model's parameters; write a function of (params,",
        ),
        (
            "torch.optim:AdamW[lrr=1]",
            "torch.optim:AdamW has no option 'lrr'; did you mean 'lr'? (it has: lr, betas, eps,",
        ),
        ("torch.optim:AdamW[bet=0.9]", "torch.optim:AdamW has no option 'bet'; did you mean 'betas'?"),
        ("torch.optim:AdamW[params=3]", "torch.optim:AdamW has no option 'params'"),
        ("my_rules.py:MyOpt[clap=1]", "my_rules.py:MyOpt has no option 'clap'; did you mean 'clip'?"),
        (
            "my_rules.py:MyOpt[clip=-1]",
            "my_rules.py:MyOpt[clip=-1]: Invalid clip value: -1 (clip must be a number >= 0)",
        ),
        ("my_rules.py:MyOpt[betas=0.9]", "my_rules.py:MyOpt[betas=0.9]: betas must be 2 numbers >= 0 and < 1, not 0.9"),
        ("my_rules.py:MyOpt[betas=(0.9,0.9),beta2=0.5]", "'beta2' is an entry of 'betas'; give one of the two"),
        ("adamw[betas=(0.9,0.9),beta2=0.5]", "'beta2' is an entry of 'betas'; give one of the two"),
        ("torch.optim:AdamW[lr=1,lr=2]", "'lr' is given twice in 'torch.optim:AdamW[lr=1,lr=2]'; give it once"),
        (
            "torch.optim:AdamW[lr=0.01",
            "cannot read 'torch.optim:AdamW[lr=0.01'; write NAME or NAME[key=value,...]",
        ),
        ("torch.optim:AdamW[lr=0.1]x", "cannot read 'torch.optim:AdamW[lr=0.1]x'"),
        ("torch.optim:AdamW[lr]", "cannot read the options of 'torch.optim:AdamW[lr]'; write key=value"),
        (
            "torch.optim:AdamW[=3]",
            "a value is a number, true, false, none, a word, a 'text', or a tuple such as (0.9,0.99)",
        ),
        ("torch.optim:AdamW[lr=]", "cannot read the options"),
        ("torch.optim:AdamW[lr=1+1]", "cannot read the options"),
        ("torch.optim:AdamW[**x]", "cannot read the options"),
        ("torch.optim:AdamW[lr=1)(eps=2]", "cannot read the options"),
        ("torch.optim:AdamW[lr=1)+_(eps=2]", "cannot read the options"),
        ("my_rules.py:factory[fancy=open('x')]", "cannot read the options"),
        (
            "my_rules.py:factory[fancy=1j]",
            "fancy=1j cannot be stored in a record; an option is a finite number, a text",
        ),
        ("my_rules.py:factory[fancy={1,2}]", "fancy={1, 2} cannot be stored in a record"),
        ("my_rules.py:factory[fancy=b'x']", "makes the optimizer: FILE.py:NAME"),
        ("my_rules.py:factory[fancy=1e999]", "fancy=inf cannot be stored in a record"),
        ("my_rules.py:factory[fancy={1:2}]", "fancy={1: 2} cannot be stored in a record"),
    ],
)
def test_what_cannot_be_had_is_told(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        parse_config(text, {})


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = 1\nraise RuntimeError('boom')", r"broken\.py stopped with RuntimeError: boom \(line 2 of .*broken\.py\)"),
        ("import no_such_thing", r"stopped with ModuleNotFoundError: No module named 'no_such_thing' \(line 1 of"),
        ("x = = 3", r"stopped with SyntaxError: invalid syntax \(broken\.py, line 1\)"),
        ("import sys\nsys.exit(3)", r"stopped with SystemExit: 3 \(line 2 .*put what a script does under: if __name__"),
        ("def f():\n    1 / 0\nf()", r"ZeroDivisionError: division by zero \(line 2 of"),
    ],
)
def test_a_file_that_stops_is_told_with_its_line(code: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(code)
    before = set(sys.modules)
    with pytest.raises(UsageError, match=told):
        parse_config("broken.py:X", {})
    assert not {name for name in set(sys.modules) - before if name.startswith("broken")}


def test_a_module_that_stops_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stops_at_once.py").write_text("raise RuntimeError('no display')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"cannot import 'stops_at_once' .* stopped with RuntimeError: no display"):
        parse_config("stops_at_once:X", {})


def test_ctrl_c_in_a_file_is_no_error_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "pressed.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        parse_config("pressed.py:X", {})


def test_a_file_imports_what_lies_beside_it_at_once_and_later(tmp_path: Path) -> None:
    (tmp_path / "beside_a_rule.py").write_text("RATE = 0.25")
    (tmp_path / "lazy_beside.py").write_text("MOMENTUM = 0.75")
    (tmp_path / "uses.py").write_text(
        "import torch, beside_a_rule\n"
        "def make(params):\n"
        "    from lazy_beside import MOMENTUM\n"
        "    return torch.optim.SGD(params, lr=beside_a_rule.RATE, momentum=MOMENTUM)\n"
    )
    group = build("uses.py:make").param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.25, 0.75)
    assert sys.path[0] != str(tmp_path)  # nothing installed is hidden by the user's folder


def test_a_file_takes_no_module_of_python_s_place(tmp_path: Path) -> None:
    import queue

    (tmp_path / "queue.py").write_text("import torch\nmake = torch.optim.SGD")
    assert type(build("queue.py:make")).__name__ == "SGD"
    assert sys.modules["queue"] is queue


def test_files_of_one_name_in_two_folders_are_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    for name, rate in (("one", 0.1), ("two", 0.2)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rules.py").write_text(
            f"import torch\ndef make(params):\n    return torch.optim.SGD(params, lr={rate})"
        )
        monkeypatch.chdir(folder)
        rates.append(build("rules.py:make").param_groups[0]["lr"])
    assert rates == [0.1, 0.2]
    assert user_files.load("rules.py") is user_files.load(str(tmp_path / "two" / "rules.py"))


def test_a_factory_that_makes_no_optimizer_is_told() -> None:
    with pytest.raises(
        UsageError, match=r"my_rules\.py:no_optimizer must return a torch.optim.Optimizer; it returned a list"
    ):
        build("my_rules.py:no_optimizer")


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("torch.optim:LBFGS", {"lr": (1e-3, 10)}),  # as LBFGS of the library has it
        ("my_rules.py:Faster", {"lr": (0.005, 50)}),  # torch's SGD at another rate: a hundredth to a hundred times it
        ("my_rules.py:factory", {"lr": (0.0005, 5.0)}),
        ("my_rules.py:hands_on", {"lr": (1e-4, 1.0)}),  # asked for an optimizer, whose rate is 0.01
        ("my_rules.py:no_rate", {}),
        ("my_rules.py:no_optimizer", {"lr": (0.001, 10)}),
        ("my_rules.py:MyOpt", {"lr": (1e-3, 1.0), "beta1": (1e-3, 0.3), "beta2": (1e-3, 0.3), "clip": (0.5, 2.0)}),
    ],
)
def test_ranges_are_declared_or_around_the_default_rate(text: str, ranges: dict[str, tuple[float, float]]) -> None:
    found = parse_config(text, {}).origin.ranges
    assert list(found) == list(ranges)
    for name, ends in ranges.items():
        assert (found[name].low, found[name].high) == pytest.approx(ends, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("adam", "cosine"),
        ("torch.optim:Adam", "cosine"),
        ("my_rules.py:MyOpt", "cosine"),
        ("my_rules.py:Averaging", "constant"),  # it averages on its own
        ("steepestdescent", "constant"),  # it finds its rate itself
    ],
)
def test_a_schedule_is_for_optimizers_that_take_one(text: str, schedule: str) -> None:
    assert parse_config(text, {}, "cosine").schedule == schedule


ROUND_TRIPS = [
    "adamw[betas=(0.8,0.9)]",
    "adamw[beta2=0.9,lr=1e-7]",
    "muon[ns_coefficients=(3.0,-4.0,2.0)]",
    "torch.optim:AdamW[betas=(0.8,0.9),foreach=true]",
    "my_rules.py:MyOpt[beta2=0.7]",
    "my_rules.py:factory[layers=(1,(2,3)),fancy={'a':(1,2)}]",
    "my_rules.py:factory[layers=[1,2],fancy='none']",
    "sgd[momentum=0.9]",
]


@pytest.mark.parametrize("text", ROUND_TRIPS)
def test_a_record_gives_the_same_optimizer_back(text: str) -> None:
    one = parse_config(text, {"sgd": {"lr": 0.5}}, "cosine")
    document = json.loads(json.dumps(one.document()))
    again = OptimizerConfig.read(document)
    assert again.options == one.options  # (1, 2) == [1, 2] is False: tuples are tuples again
    assert (again.label, again.source, again.schedule) == (one.label, one.source, one.schedule)
    assert json.loads(json.dumps(again.document())) == document
    model = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 2, bias=False))  # a hidden matrix
    first, second = one.build(model), again.build(model)
    assert first.param_groups == second.param_groups


def test_a_factory_gets_its_tuples_back_from_a_record(tmp_path: Path) -> None:
    (tmp_path / "strict.py").write_text(
        "import torch\n"
        "def make(params, layers=(1,)):\n"
        "    assert isinstance(layers, tuple) and isinstance(layers[1], tuple)\n"
        "    return torch.optim.SGD(params)\n"
    )
    one = parse_config("strict.py:make[layers=(1,(2,3))]", {})
    document = json.loads(json.dumps(one.document()))
    OptimizerConfig.read(document).build(torch.nn.Linear(1, 1))


def test_the_whole_setting_is_recorded_without_addresses() -> None:
    options = parse_config("my_rules.py:factory[lr=1]", {}).document()["options"]
    assert options == {"lr": 1, "fancy": None, "layers": (1,), "callback": "<built-in function print>"}
    (Path.cwd() / "objects.py").write_text(
        "import torch\ndef make(params, thing=object()):\n    return torch.optim.SGD(params)"
    )
    assert parse_config("objects.py:make", {}).document()["options"] == {"thing": "<object object>"}


def test_a_digest_changes_with_the_rule_and_with_nothing_else(tmp_path: Path) -> None:
    def digest(name: str, code: str) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "rules.py").write_text(code)
        return str(parse_config(f"{tmp_path / name}/rules.py:MyOpt", {}).document()["rule_sha256"])

    first = digest("first", MY_RULES)
    assert digest("same", MY_RULES) == first
    # The rule is a function outside the class: a digest of the class's own lines would not see this.
    assert digest("other", MY_RULES.replace("p - lr * g", "p - 2 * lr * g")) != first


def test_a_digest_of_another_library_s_class_covers_its_base_class() -> None:
    adam, adamw = (sources.find(f"torch.optim:{name}") for name in ("Adam", "AdamW"))
    assert len({adam.sha256({}), adamw.sha256({}), sources.find("torch.optim:SGD").sha256({})}) == 3
    assert adamw.sha256({}) == sources.find("torch.optim:AdamW").sha256({"lr": 1})
    assert adamw.sha256({}) != sources.find("torch.optim.adamw:AdamW").sha256({})  # found in another file


def test_a_callable_object_has_the_same_digest_in_every_process(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rules.py").write_text(MY_RULES)
    found = [sources.find(f"{tmp_path / name}/rules.py:maker") for name in ("one", "two")]
    assert found[0].sha256({}) == found[1].sha256({})


def test_a_setting_holds_for_an_optimizer_however_it_is_spelled() -> None:
    settings = {"AdamW": {"lr": 0.5, "betas": [0.8, 0.9]}, "./my_rules.py:factory": {"lr": 0.25}}
    assert parse_config("adamw", settings).options == {"lr": 0.5, "betas": (0.8, 0.9)}
    assert parse_config("my_rules.py:factory", settings).options == {"lr": 0.25}
    one = parse_config("adamw[beta2=0.99]", settings)  # the other entry is the setting's, not the default
    assert one.options["betas"] == (0.8, 0.99)
    assert one.label == "AdamW[betas=(0.8,0.99)]"


SGD_BY_ANY_NAME = ("sgd", "SGD", "torch.optim:SGD", "torch.optim.sgd:SGD", "steepest:SGD", "my_rules.py:Subclass")


def test_one_optimizer_runs_with_one_setting_by_any_spelling() -> None:
    settings = {"sgd": {"lr": 0.1}}
    found = [parse_config(text, settings) for text in SGD_BY_ANY_NAME]
    assert [dict(one.options) for one in found] == [{"lr": 0.1}] * len(found)
    assert not any("[" in one.label for one in found)
    assert [one.origin.ranges["lr"] for one in found] == [found[0].origin.ranges["lr"]] * len(found)
    assert parse_config("sgd", {"torch.optim:SGD": {"lr": 0.1}}).options == {"lr": 0.1}
    assert parse_config("torch.optim:SGD", {"sgd": {"lr": 1}, "torch.optim:SGD": {"lr": 2}}).options == {"lr": 2}
    assert parse_config("torch.optim:SGD", {"not_installed:SGD": {"lr": 2}, "sgd": {"lr": 1}}).options == {"lr": 1}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("my_rules.py:Faster", {"momentum": 0.5}),  # its own rate is its author's choice
        ("my_rules.py:Settled", {"lr": 0.1}),  # a partial that settles the momentum
        ("my_rules.py:maker", {}),  # a function is its author's choice altogether
        ("my_rules.py:Rigid", {}),  # its constructor hands on a rate of its own, and takes no other
        ("torch.optim:RMSprop", {"alpha": 0.9}),  # torch has no eps_in_sqrt
    ],
)
def test_a_setting_holds_for_what_an_author_has_not_changed(text: str, options: dict[str, Any]) -> None:
    settings = {"sgd": {"lr": 0.1, "momentum": 0.5}, "rmsprop": {"alpha": 0.9, "eps_in_sqrt": True}}
    assert parse_config(text, settings).options == options


def test_a_schedule_does_not_depend_on_the_spelling() -> None:
    assert parse_config("torch.optim:LBFGS", {}, "cosine").schedule == parse_config("lbfgs", {}, "cosine").schedule


def test_a_setting_that_makes_no_sense_is_told() -> None:
    for settings, told in (
        ({"adamm": {}}, "unknown optimizer 'adamm'; did you mean 'adam'"),
        ({"adam": {"lrr": 1}}, "Adam has no option 'lrr'; did you mean 'lr'"),
        ({"adam": {"lr": torch.tensor(1.0)}}, "cannot be stored in a record"),
    ):
        with pytest.raises(UsageError, match=told):
            parse_config("adam", settings)


def test_labels_tell_optimizers_of_one_name_apart(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("from steepest import AdamW\nfrom torch.optim import SGD")
    texts = ("adamw", "torch.optim:AdamW", "steepest:AdamW", "other.py:AdamW", "other.py:SGD", "sgd")
    labels = [parse_config(text, {}).label for text in texts]
    assert labels == ["AdamW", "torch.optim.AdamW", "steepest.AdamW", "other.AdamW", "other.SGD", "SGD"]


def test_labels_tell_near_numbers_apart() -> None:
    labels = [parse_config(f"adam[lr={rate}]", {}).label for rate in ("0.00123456", "0.0012345601", "1e-3", "1e20")]
    assert labels == ["Adam[lr=0.00123456]", "Adam[lr=0.0012345601]", "Adam", "Adam[lr=1e+20]"]


def test_what_is_given_covers_the_entries_of_tuples() -> None:
    assert parse_config("adamw[betas=(0.9,0.99)]", {}).fixed == {"betas", "beta1", "beta2"}
    assert parse_config("adamw[beta2=0.99]", {}).fixed == {"betas", "beta2"}
    assert parse_config("adamw", {"adamw": {"lr": 1.0}}).fixed == frozenset()


def test_defaults_return_for_searched_entries_alone() -> None:
    one = parse_config("adamw", {"adamw": {"lr": 0.5, "betas": (0.5, 0.6), "eps": 1e-3}})
    assert one.with_defaults(["lr", "beta2"]).options == {"betas": (0.5, 0.999), "eps": 1e-3}
    assert one.with_defaults(["beta1", "beta2"]).options["betas"] == (0.9, 0.999)


@pytest.mark.parametrize(
    ("text", "point", "told"),
    [
        ("adamw", {"lr": -1.0}, "AdamW cannot run with lr=-1: Invalid learning rate: -1.0 (lr must be a number >= 0)"),
        ("adamw", {"beta2": 1.5}, "AdamW cannot run with beta2=1.5: Invalid beta parameter at index 1: 1.5"),
        ("adamw", {"momentum": 0.5}, "AdamW cannot run with momentum=0.5: AdamW has no option 'momentum'"),
        (
            "torch.optim:AdamW",
            {"lr": -1.0},
            "torch.optim.AdamW cannot run with lr=-1: ValueError: Invalid learning rate",
        ),
        ("torch.optim:AdamW", {"lr": -1.0}, "change its search space"),
        ("my_rules.py:MyOpt", {"clip": -1.0}, "my_rules.MyOpt cannot run with clip=-1: Invalid clip value"),
        ("my_rules.py:factory", {"momentum": 1}, "my_rules.py:factory has no option 'momentum'"),
        ("my_rules.py:hands_on", {"momentumm": 1}, "unexpected keyword argument 'momentumm'"),
        ("my_rules.py:hands_on", {"momentumm": 1}, "; change its search space"),
    ],
)
def test_a_point_that_the_optimizer_refuses_is_told_before_anything_runs(
    text: str, point: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        parse_config(text, {}).with_options(point)


def test_an_optimizer_that_refuses_everything_is_no_fault_of_a_point(tmp_path: Path) -> None:
    (tmp_path / "picky.py").write_text(
        "import torch\n"
        "def make(params, lr=0.1):\n"
        "    params = list(params)\n"
        "    if len(params) < 2:\n"
        "        raise ValueError('weights and biases, please')\n"
        "    return torch.optim.SGD(params, lr=lr)\n"
    )
    assert parse_config("picky.py:make", {}).with_options({"lr": 0.5}).options == {"lr": 0.5}


def test_trying_a_point_draws_from_no_stream_of_the_caller_s(tmp_path: Path) -> None:
    (tmp_path / "draws.py").write_text(
        "import torch\ndef make(params, lr=0.1):\n    torch.rand(3)\n    return torch.optim.SGD(params, lr=lr)\n"
    )
    before = torch.get_rng_state()
    parse_config("draws.py:make", {}).with_options({"lr": 0.5})
    assert torch.equal(torch.get_rng_state(), before)


def test_an_optimizer_with_modes_is_set_to_training(tmp_path: Path) -> None:
    (tmp_path / "modes.py").write_text(
        "import torch\n"
        "class Modes(torch.optim.SGD):\n"
        "    training = False\n"
        "    def train(self):\n"
        "        self.training = True\n"
        "    def eval(self):\n"
        "        self.training = False\n"
    )
    made: Any = build("modes.py:Modes")
    assert made.training is True


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("adam[state_dtype=bfloat16]", {"state_dtype": "bfloat16"}),
        ("adam[state_dtype='bfloat16']", {"state_dtype": "bfloat16"}),
        ("adam[max_norm=none]", {"max_norm": None}),
        ("adam[betas=(.5,.6),]", {"betas": (0.5, 0.6)}),
        ("adam[]", {}),
        ("ADAM", {}),
        (
            "my_rules.py:factory[fancy=word,layers=(none,true,other)]",
            {"fancy": "word", "layers": (None, True, "other")},
        ),
    ],
)
def test_values_of_every_kind_are_read(text: str, options: dict[str, Any]) -> None:
    assert sources.parse(text)[1] == options


def test_a_rule_without_source_text_is_told_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Callable[..., Any] = dict
    origin = ExternalOptimizer("builtins:dict", found)
    assert re.fullmatch("[0-9a-f]{64}", origin.sha256({}))


def test_what_is_handed_over_has_a_label_that_a_command_line_could_have() -> None:
    for label in ("", " ", "a:b", "a[b]", "]"):
        with pytest.raises(UsageError, match="cannot be a label; it must have letters or digits, and no colon"):
            sources.give(label, torch.optim.SGD)
    built: Any = torch.optim.SGD(torch.nn.Linear(1, 1).parameters())
    with pytest.raises(UsageError, match="'sgd' is an optimizer that is built already; give its class SGD"):
        sources.give("sgd", built)


def test_a_partial_is_known_by_its_function_and_its_options() -> None:
    documents = []
    for momentum in (0.9, 0.5):
        source = sources.give("mine", functools.partial(torch.optim.SGD, momentum=momentum))
        documents.append(parse_config(source, {}).document())
    assert [one["options"]["momentum"] for one in documents] == [0.9, 0.5]
    other = sources.give("mine", functools.partial(torch.optim.Adam, lr=0.5))
    assert parse_config(other, {}).document()["rule_sha256"] != documents[0]["rule_sha256"]


def test_a_rule_typed_into_a_session_is_known_by_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    import __main__

    monkeypatch.delattr(__main__, "__file__", raising=False)
    digests = []
    for rate in ("0.1", "0.2"):
        code = f"def make(params):\n    return torch.optim.SGD(params, lr={rate})\n"
        name = f"<typed {rate}>"
        monkeypatch.setitem(linecache.cache, name, (len(code), None, code.splitlines(keepends=True), name))
        space: dict[str, Any] = {"__name__": "__main__", "torch": torch}
        exec(compile(code, name, "exec"), space)
        digests.append(parse_config(sources.give("typed", space["make"]), {}).document()["rule_sha256"])
    assert digests[0] != digests[1]


@pytest.mark.parametrize("name", ["Mine", "mine"])
def test_a_rule_that_nobody_can_import_is_known_by_its_file(name: str, tmp_path: Path) -> None:
    """As in a script that `runpy` has run: its module is not in `sys.modules`."""
    file, digests = tmp_path / "script.py", []
    for rate in (0.1, 0.1, 0.2):
        file.write_text(
            "import torch\n\n\nclass Mine(torch.optim.SGD):\n"
            f"    def __init__(self, params, lr={rate}):\n        super().__init__(params, lr=lr)\n\n\n"
            f"def mine(params, lr={rate}):\n    return torch.optim.SGD(params, lr=lr)\n",
            encoding="utf-8",
        )
        source_code.file_digest.cache_clear()
        made = runpy.run_path(str(file))[name]
        assert made.__module__ not in sys.modules
        config = parse_config(sources.give("own", made), {})
        assert str(file) in config.origin.files
        digests.append(config.document()["rule_sha256"])
    assert digests[0] == digests[1] != digests[2]
