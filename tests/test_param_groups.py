"""Parameter groups of a model: no decay, layer by layer, by one's own rules."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import steepest
from steepest import groups
from steepest.param_groups import ParamGroups, places

# torch's own, on importing what its compiler needs
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

Wrap = Callable[[nn.Module], nn.Module]
WRAPPERS: dict[str, Wrap] = {
    "plain": lambda m: m,
    "DataParallel": nn.DataParallel,
    "compiled": torch.compile,
    "compiled DataParallel": lambda m: torch.compile(nn.DataParallel(m)),
    "DataParallel of compiled": lambda m: nn.DataParallel(torch.compile(m)),
    "averaged": torch.optim.swa_utils.AveragedModel,
}
every_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.linear = nn.Linear(8, 8)


class Net(nn.Module):
    """A small transformer's parts, in its usual order."""

    def __init__(self, blocks: int = 3, tied: bool = False) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(4, 8))
        self.embed = nn.Embedding(10, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 10, bias=False)
        if tied:
            self.head.weight = self.embed.weight


def named(made: ParamGroups) -> dict[str, set[str]]:
    return {group["name"]: {name for name, _ in group["params"]} for group in made}


def every_name(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters()}


def count(made: ParamGroups) -> int:
    return sum(len(group["params"]) for group in made)


# -- no_decay --------------------------------------------------------------------------------------------------------


@every_wrapper
def test_biases_norms_and_embeddings_do_not_decay(wrap: Wrap) -> None:
    model = Net()
    made = groups.no_decay(wrap(model), weight_decay=0.1, lr=0.5)
    exempt = {n for n in every_name(model) if n.endswith("bias") or "norm." in n or n.startswith("embed.")}
    assert named(made) == {"decay": every_name(model) - exempt, "no decay": exempt}
    assert [(group["weight_decay"], group["lr"]) for group in made] == [(0.1, 0.5), (0, 0.5)]
    held = {id(p) for group in made for _, p in group["params"]}
    assert wrap is WRAPPERS["averaged"] or held == {id(p) for p in model.parameters()}


@pytest.mark.parametrize(
    ("module", "exempt"),
    [
        (nn.BatchNorm2d(3), {"weight", "bias"}),
        (nn.GroupNorm(1, 3), {"weight", "bias"}),
        (nn.RMSNorm(3), {"weight"}),
        (nn.LayerNorm((2, 3)), {"weight", "bias"}),
        (nn.InstanceNorm1d(3, affine=True), {"weight", "bias"}),
        (nn.LSTM(2, 2), {"bias_ih_l0", "bias_hh_l0"}),
        (nn.MultiheadAttention(4, 1), {"in_proj_bias", "out_proj.bias"}),
        (nn.EmbeddingBag(4, 2), {"weight"}),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), {"bias"}),
        (nn.Bilinear(2, 2, 2), {"bias"}),
        (nn.PReLU(), set()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_kind_of_the_module_decides(module: nn.Module, exempt: set[str]) -> None:
    model = nn.Module()
    model.one, model.two = module, nn.Linear(2, 2, bias=False)
    made = named(groups.no_decay(model, weight_decay=0.1))
    assert made.get("no decay", set()) == {f"one.{name}" for name in exempt}


def test_a_norm_of_ones_own_is_known_by_its_name() -> None:
    class LlamaRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

    class NormedLinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))

    made = named(groups.no_decay(nn.Sequential(LlamaRMSNorm(), NormedLinear()), weight_decay=0.1))
    assert made == {"decay": {"1.weight"}, "no decay": {"0.weight"}}


@pytest.mark.parametrize("head_first", [False, True])
def test_tied_weights_are_there_once_and_count_as_the_embedding(head_first: bool) -> None:
    model = nn.Module()
    parts = {"embed": nn.Embedding(10, 8), "body": nn.Linear(8, 8), "head": nn.Linear(8, 10)}
    parts["head"].weight = parts["embed"].weight
    for name in sorted(parts, reverse=head_first):
        model.add_module(name, parts[name])
    made = groups.no_decay(model, weight_decay=0.1)
    assert named(made)["decay"] == {"body.weight"}
    assert count(made) == len(list(model.parameters())) == 4


def test_embeddings_decay_on_demand_and_other_names_do_not() -> None:
    made = named(groups.no_decay(Net(), weight_decay=0.1, embeddings=False, also=["place", "head.*"]))
    assert "embed.weight" in made["decay"]
    assert {"place", "head.weight"} <= made["no decay"]


def test_a_model_without_anything_exempt_has_one_group() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    assert named(groups.no_decay(model, weight_decay=0.1)) == {"decay": {"0.weight"}}


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (nn.Sequential(nn.LayerNorm(3)), {}, ValueError, "group 'decay' is empty: .* 0.weight, 0.bias"),
        (nn.ReLU(), {}, ValueError, "this ReLU has nothing to train: it has no parameters"),
        (nn.Linear(2, 2).requires_grad_(False), {}, ValueError, "all of its 2 tensors have requires_grad=False"),
        (
            Net(),
            {"also": ["gamma*"]},
            ValueError,
            r"'gamma\*' matches none of the \d+ parameters .* place, embed.weight",
        ),
        (Net(), {"also": "gamma"}, TypeError, r"a list of patterns, not the text 'gamma'; write \['gamma'\]"),
        (Net().parameters(), {}, TypeError, "made of a model, a torch.nn.Module, not of a generator"),
        (Net(), {"params": []}, ValueError, "cannot have the key 'params'"),
    ],
)
def test_mistakes_without_decay(model: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        groups.no_decay(model, weight_decay=0.1, **options)


# -- layerwise -------------------------------------------------------------------------------------------------------


@every_wrapper
def test_later_layers_have_higher_rates(wrap: Wrap) -> None:
    model = Net(blocks=3)
    made = groups.layerwise(wrap(model), lr=1.0, decay=0.5)
    assert [(g["name"], g["lr"]) for g in made] == [
        ("before", 1 / 16),
        ("layer 0", 1 / 8),
        ("layer 1", 1 / 4),
        ("layer 2", 1 / 2),
        ("after", 1.0),
    ]
    held = named(made)
    assert held["before"] == {"place", "embed.weight"}
    assert held["after"] == {"norm.weight", "norm.bias", "head.weight"}
    assert held["layer 1"] == {n for n in every_name(model) if n.startswith("blocks.1.")}
    assert "the 3 children with parameters of 'blocks', a ModuleList" in str(made)


def test_layer_10_is_not_a_part_of_layer_1() -> None:
    model = Net(blocks=11)
    held = named(groups.layerwise(model, lr=1.0))
    assert len(held["layer 1"]) == len(held["layer 10"]) == len(list(model.blocks[0].parameters()))


def test_the_real_rates_are_in_the_optimizer_and_move_the_layers() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    optimizer = steepest.create("sgd", groups.layerwise(model, lr=0.1, decay=0.5))
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.1]
    first, second = model.parameters()
    before = [p.item() for p in (first, second)]
    first.grad, second.grad = torch.ones_like(first), torch.ones_like(second)
    optimizer.step()
    assert before[0] - first.item() == pytest.approx(0.05, abs=1e-6)
    assert before[1] - second.item() == pytest.approx(0.1, abs=1e-6)


def test_frozen_layers_are_left_out_and_the_others_keep_their_rates() -> None:
    model = Net(blocks=3)
    model.blocks[0].requires_grad_(False)
    model.embed.requires_grad_(False)
    model.place.requires_grad_(False)
    made = groups.layerwise(model, lr=1.0, decay=0.5)
    assert [(g["name"], g["lr"]) for g in made] == [("layer 1", 0.25), ("layer 2", 0.5), ("after", 1.0)]


def test_layers_can_be_named() -> None:
    model = nn.Module()
    for name in ("stem", "one", "between", "two", "head"):
        model.add_module(name, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)))
    made = groups.layerwise(model, lr=1.0, decay=0.5, layers=["one", "two"])
    held = named(made)
    assert [len(held[name]) for name in ("before", "layer 0", "layer 1", "after")] == [6, 12, 6, 6]
    assert "between.0.weight" in held["layer 0"]
    assert "layers: one, two, as given" in str(made)
    by_container = groups.layerwise(model, lr=1.0, layers="head")
    assert [g["name"] for g in by_container] == ["before", "layer 0", "layer 1", "layer 2"]


def test_the_longest_list_is_taken_and_of_equal_ones_the_largest() -> None:
    model = nn.Module()
    model.short = nn.Sequential(nn.Linear(99, 99), nn.ReLU(), nn.Linear(99, 99))
    model.small = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model.large = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)])
    assert "of 'large', a ModuleList" in groups.layerwise(model, lr=1.0).remark


def test_layers_may_be_split_by_decay() -> None:
    made = groups.layerwise(Net(blocks=2), lr=1.0, decay=0.5, weight_decay=0.1)
    held = named(made)
    assert [(g["lr"], g["weight_decay"]) for g in made if g["name"].startswith("layer 1")] == [(0.5, 0.1), (0.5, 0)]
    assert held["before, no decay"] == {"embed.weight"}
    assert all("norm" in n or "bias" in n for n in held["layer 0, no decay"])
    assert count(made) == len(list(Net(blocks=2).parameters()))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Linear(2, 2), {}, r"found no layers: no ModuleList or Sequential of this Linear .* layers=\[...\]"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), {}, r"found no layers.*\(its own children: 1\)"),
        (Net(), {"layers": "block"}, "no module 'block'; did you mean 'blocks'"),
        (Net(), {"layers": ["head", "bodyy"]}, "no module 'bodyy'"),
        (Net(), {"layers": "head"}, "'head' has 0 children with parameters; layers are two or more"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU()), {"layers": ["0", "1"]}, "layer '1' has no parameters"),
        (Net(), {"decay": 1.5}, "0 < decay <= 1, not lr=1.0 and decay=1.5"),
        (Net(), {"lr": 0.0}, "lr > 0"),
    ],
)
def test_mistakes_layer_by_layer(model: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        groups.layerwise(model, **{"lr": 1.0, **options})


# -- by --------------------------------------------------------------------------------------------------------------


@every_wrapper
def test_patterns_and_functions(wrap: Wrap) -> None:
    model = Net()
    rules = {"head": "head.*", "norms": lambda name, module, p: isinstance(module, nn.LayerNorm)}
    made = groups.by(wrap(model), rules, head={"lr": 0.1}, rest={"lr": 0.2})
    held = named(made)
    assert held["head"] == {"head.weight"}
    assert held["norms"] == {n for n in every_name(model) if "norm." in n}
    assert held["rest"] == every_name(model) - held["head"] - held["norms"]
    optimizer = steepest.create("adamw", made, lr=0.5)
    assert [(g["name"], g["lr"]) for g in optimizer.param_groups] == [("head", 0.1), ("norms", 0.5), ("rest", 0.2)]


def test_a_function_sees_name_module_and_parameter() -> None:
    model = Net()
    seen: list[tuple[str, nn.Module, nn.Parameter]] = []
    groups.by(torch.compile(model), {"all": lambda *arguments: seen.append(arguments) or True})
    modules = dict(model.named_modules())
    assert {name for name, _, _ in seen} == every_name(model)
    for name, module, p in seen:
        place, _, local = name.rpartition(".")
        assert module is modules[place]
        assert getattr(module, local) is p


def test_adapters_train_and_the_frozen_rest_is_left_out() -> None:
    model = Net()
    model.requires_grad_(False)
    for block in model.blocks:
        block.linear.lora_a = nn.Linear(8, 2, bias=False)
        block.linear.lora_b = nn.Linear(2, 8, bias=False)
    made = groups.by(model, {"a": "*.lora_a.*", "b": "*.lora_b.*"}, b={"lr": 0.1})
    assert {name: len(held) for name, held in named(made).items()} == {"a": 3, "b": 3}
    assert count(groups.no_decay(model, weight_decay=0.1)) == 6
    assert [g["name"] for g in groups.layerwise(model, lr=1.0)] == ["layer 0", "layer 1", "layer 2"]


def test_tied_weights_match_by_any_of_their_names() -> None:
    made = named(groups.by(Net(tied=True), {"head": "head.*"}))
    assert made["head"] == {"embed.weight"}


@pytest.mark.parametrize(
    ("rules", "options", "error", "message"),
    [
        (
            {"a": "haed.*"},
            {},
            ValueError,
            r"group 'a' is empty: the pattern 'haed\.\*' matches none of the .* place, emb",
        ),
        ({"a": lambda n, m, p: False}, {}, ValueError, "group 'a' is empty: its function takes none"),
        ({"a": "*"}, {"rest": {"lr": 1}}, ValueError, "group 'rest' is empty"),
        (
            {"a": "head*", "b": "*d.weight"},
            {},
            ValueError,
            "'embed.weight' falls|'head.weight' falls in groups 'a' and 'b'",
        ),
        ({"a": 3}, {}, TypeError, "rule of group 'a' must be a pattern such as .* not 3"),
        ({"head": "head.*"}, {"haed": {}}, ValueError, "options for a group 'haed'; did you mean 'head'"),
        ({"head": "head.*"}, {"head": 0.1}, TypeError, r"options of group 'head' must be a dict .* not 0\.1"),
        ({"rest": "head.*"}, {}, ValueError, "'rest' is the group of what no rule takes"),
        ({"a": "head.*"}, {"a": {"name": "b"}}, ValueError, "cannot have the key 'name'"),
    ],
)
def test_mistakes_in_rules(rules: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        groups.by(Net(), rules, **options)


def test_a_typing_error_in_an_option_is_told_by_the_optimizer() -> None:
    made = groups.by(Net(), {"head": "head.*"}, head={"weight_decy": 0.1})
    with pytest.raises(ValueError, match="did you mean 'weight_decay'"):
        steepest.create("adamw", made)


# -- all -------------------------------------------------------------------------------------------------------------

MAKERS: dict[str, Callable[[nn.Module], ParamGroups]] = {
    "no_decay": lambda m: groups.no_decay(m, weight_decay=0.1),
    "layerwise": lambda m: groups.layerwise(m, lr=0.1),
    "by": lambda m: groups.by(m, {"head": "head.*"}, head={"lr": 0.1}),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@every_maker
@pytest.mark.parametrize("cls", [steepest.AdamW, torch.optim.AdamW, torch.optim.SGD])
def test_any_optimizer_takes_them_with_their_names(make: Callable[[nn.Module], ParamGroups], cls: Any) -> None:
    model = Net()
    optimizer = cls(make(model), lr=0.2)
    held = {n: p for g in optimizer.param_groups for n, p in zip(g["param_names"], g["params"], strict=True)}
    assert held.keys() == every_name(model)
    assert all(p is held[name] for name, p in model.named_parameters())


@every_maker
def test_a_checkpoint_of_a_wrapped_model_fits_the_plain_one(make: Callable[[nn.Module], ParamGroups]) -> None:
    model = Net()
    wrapped = steepest.create("adamw", make(nn.DataParallel(copy.deepcopy(model))))
    for p in (p for group in wrapped.param_groups for p in group["params"]):
        p.grad = torch.ones_like(p)
    wrapped.step()
    plain = steepest.create("adamw", make(model))
    plain.load_state_dict(wrapped.state_dict(), strict_names=True)
    assert all(len(plain.state[p]) == 3 for p in model.parameters())


@every_maker
def test_the_table_has_every_group_and_stays_right_in_use(make: Callable[[nn.Module], ParamGroups]) -> None:
    made = make(Net())
    lines = str(made).splitlines()
    assert lines[0].split() == ["group", "tensors", "parameters", "options", "such", "as"]
    for group, line in zip(made, lines[1:], strict=False):
        assert line.startswith(group["name"])
        assert f"{sum(p.numel() for _, p in group['params']):,}" in line
        assert group["params"][0][0] in line
    steepest.create("adamw", made)
    after = str(made).splitlines()
    assert [line.split()[:1] for line in after] == [line.split()[:1] for line in lines]


def test_a_module_called_module_with_neighbours_is_no_wrapper() -> None:
    model = nn.Module()
    model.module, model.other = nn.Linear(2, 2), nn.Linear(2, 2)
    assert [place.name for place in places(model)] == ["module.weight", "module.bias", "other.weight", "other.bias"]


@every_wrapper
def test_any_groups_are_divided_once_more(wrap: Wrap) -> None:
    """Each keeps its options, and what rests is what `no_decay` leaves out."""
    model = wrap(Net())
    layers = groups.layerwise(model, lr=0.1, decay=0.5)
    divided = groups.resting(model, layers)
    of_layers = {id(p): group["lr"] for group in layers for _, p in group["params"]}
    assert {id(p): group["lr"] for group in divided for _, p in group["params"]} == of_layers
    _, exempt = groups.no_decay(model)
    resting = {name for group in divided if "weight_decay" in group for name, _ in group["params"]}
    assert resting == {name for name, _ in exempt["params"]}
    assert {group["weight_decay"] for group in divided if "weight_decay" in group} == {0}
    assert [group["name"] for group in groups.resting(model)] == ["decay", "no decay"]
    assert [group["name"] for group in groups.resting(nn.LayerNorm(8))] == ["no decay"]


def test_groups_of_what_does_not_train_are_not_divided() -> None:
    model = Net()
    layers = groups.layerwise(model, lr=0.1)
    model.head.requires_grad_(False)
    with pytest.raises(ValueError, match=r"'head\.weight' in group 'after' is not a parameter of this model that"):
        groups.resting(model, layers)


def test_names_are_those_of_the_model() -> None:
    for model in (Net(), Net(tied=True), nn.LSTM(2, 2, 2), nn.Transformer(8, 2, 1, 1, 8, batch_first=True)):
        assert [place.name for place in places(model)] == [name for name, _ in model.named_parameters()]


def test_weight_decay_may_be_left_to_the_optimizer() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    made = steepest.AdamW(groups.no_decay(model), weight_decay=0.25)
    assert [group["weight_decay"] for group in made.param_groups] == [0.25, 0]
