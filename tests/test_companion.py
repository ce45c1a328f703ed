"""Optimizers of matrices with AdamW for the rest: where each parameter goes, under which numbers, and in files."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steepest
from cases import CLASSES, Options, exactly, same, through_file
from steepest import AdamW, Muon, groups
from steepest.companion import WithCompanion

WITH_COMPANION = {name: cls for name, cls in CLASSES.items() if issubclass(cls, WithCompanion)}

every_companied_class = pytest.mark.parametrize("cls", WITH_COMPANION.values(), ids=list(WITH_COMPANION))


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(drawn(shape, seed).to(dtype)) for seed, shape in enumerate(shapes)]


def walk(optimizer: torch.optim.Optimizer, steps: int = 4, start: int = 0) -> list[Tensor]:
    """Step on the same gradients for every optimizer; return the parameters."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for step in range(start, start + steps):
        for p in params:
            p.grad = drawn(tuple(p.shape), 1000 * (step + 1) + p.numel()).to(p)
        optimizer.step()
    return [p.detach().clone() for p in params]


class Net(nn.Module):
    """Embeddings, blocks, convolution, recurrence, attention, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 8)
        self.pos_emb = nn.Parameter(torch.zeros(5, 8))
        self.conv = nn.Conv1d(8, 8, 3)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.experts = nn.Parameter(torch.ones(3, 8, 8))
        self.lstm = nn.LSTM(8, 8)
        self.up = nn.Linear(8, 16)
        self.head = nn.Linear(16, 11)


def sorted_by(cls: Any, model: nn.Module, **options: Any) -> dict[bool, set[str]]:
    """The names that are matrices, and those that are not."""
    optimizer = cls.for_model(model, report=False, **options)
    return {group["use_muon"]: set(group["param_names"]) for group in optimizer.param_groups}


# -- a whole model ---------------------------------------------------------------------------------------------------


def test_a_multilayer_perceptron() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    found = sorted_by(Muon, model)
    assert found == {True: {"0.weight", "2.weight"}, False: {"0.bias", "2.bias", "4.weight", "4.bias"}}


def test_a_convolutional_network() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 2)
    )
    assert sorted_by(Muon, model)[True] == {"0.weight", "2.weight", "4.weight"}


def test_a_network_of_many_parts() -> None:
    found = sorted_by(Muon, Net(), matrices="flatten")
    assert found[True] == {
        "conv.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "up.weight",
    }
    assert {"tokens.weight", "pos_emb", "scale", "experts", "head.weight", "up.bias", "norm.weight"} <= found[False]


def test_stacked_experts_are_matrices_when_asked() -> None:
    assert "experts" in sorted_by(Muon, Net(), matrices="batch")[True]


def test_a_head_that_is_tied_to_the_embedding_is_no_matrix_and_is_there_once() -> None:
    model = nn.ModuleDict({"tokens": nn.Embedding(9, 8), "body": nn.Linear(8, 8), "head": nn.Linear(8, 9, bias=False)})
    model["head"].weight = model["tokens"].weight
    optimizer = Muon.for_model(model, report=False)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2]
    assert optimizer.param_groups[1]["param_names"] == ["tokens.weight", "body.bias"]


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    model[0].weight.requires_grad_(False)
    assert sorted_by(Muon, model) == {True: {"1.weight"}, False: {"0.bias", "1.bias", "2.weight", "2.bias"}}


def test_the_report_says_where_everything_went(capsys: pytest.CaptureFixture[str]) -> None:
    Muon.for_model(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["matrices", "1", "64", "use_muon=True", "0.weight"]
    Muon.for_model(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)), report=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("model", [nn.Linear(8, 2), nn.Embedding(4, 4), nn.LayerNorm(8)], ids=str)
def test_a_model_without_hidden_matrix_is_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"has no hidden matrix: .* train it with AdamW"):
        Muon.for_model(model)


@every_companied_class
def test_every_class_trains_a_whole_model(cls: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(32, 1, 4, 4)
    y = (x.mean((1, 2, 3)) > 0).long()
    optimizer = cls.for_model(model, report=False, lr=0.01, adamw_lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_create_divides_a_model() -> None:
    optimizer = steepest.create("muon", nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)))
    assert [group["use_muon"] for group in optimizer.param_groups] == [True, False]


# -- groups ----------------------------------------------------------------------------------------------------------


@every_companied_class
def test_parameters_are_divided_by_shape(cls: Any) -> None:
    params = parameters((4, 3), (4,), (), (2, 3, 2, 2), (5, 1, 1), (1, 6))
    optimizer = cls(params, lr=0.5, weight_decay=0.25, adamw_lr=0.125, adamw_weight_decay=0.0625)
    matrices, others = optimizer.param_groups
    assert [tuple(p.shape) for p in matrices["params"]] == [(4, 3), (2, 3, 2, 2), (1, 6)]
    assert [tuple(p.shape) for p in others["params"]] == [(4,), (), (5, 1, 1)]
    assert [(g["use_muon"], g["lr"], g["weight_decay"]) for g in (matrices, others)] == [
        (True, 0.5, 0.25),
        (False, 0.125, 0.0625),
    ]


def test_named_parameters_keep_their_names() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    optimizer = Muon(model.named_parameters())
    assert [group["param_names"] for group in optimizer.param_groups] == [
        ["0.weight"],
        ["0.bias", "1.weight", "1.bias"],
    ]


def test_a_generator_of_parameters_and_a_late_group_are_divided_too() -> None:
    model = nn.Linear(4, 4)
    optimizer = Muon(model.parameters())
    optimizer.add_param_group({"params": parameters((3, 3), (3,)), "adamw_lr": 0.5})
    assert [(g["use_muon"], g["lr"]) for g in optimizer.param_groups] == [
        (True, 1e-3),
        (False, 3e-4),
        (True, 1e-3),
        (False, 0.5),
    ]


def test_a_group_says_what_it_holds() -> None:
    """Its own rate and decay win over those of the companion; a matrix may go to AdamW, as a head does."""
    body, head, tail = parameters((4, 4), (4, 3), (3,))
    optimizer = Muon(
        [
            {"params": [body], "use_muon": True, "lr": 0.5},
            {"params": [head], "use_muon": False, "lr": 0.25, "weight_decay": 0.125},
            {"params": [tail], "use_muon": False},
        ],
        adamw_lr=0.0625,
        adamw_weight_decay=0.03125,
    )
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.5, 0.1),
        (0.25, 0.125),
        (0.0625, 0.03125),
    ]
    walk(optimizer)
    assert set(optimizer.state[head]) == {"step", "exp_avg", "exp_avg_sq"}
    assert set(optimizer.state[body]) == {"momentum_buffer"}


def test_groups_without_a_matrix_are_refused() -> None:
    """Never silently AdamW on everything: the group must say so."""
    for params in (parameters((4,)), parameters((4,), ()), parameters((3, 1, 1))):
        with pytest.raises(ValueError, match=r"only supports 2D parameters.*use_muon=False"):
            Muon(params)
    optimizer = Muon(parameters((2, 2)))
    with pytest.raises(ValueError, match="only supports 2D parameters"):
        optimizer.add_param_group({"params": parameters((4,)), "use_muon": True})
    assert len(optimizer.param_groups) == 1


def test_a_failed_late_group_leaves_nothing_behind() -> None:
    optimizer = Muon(parameters((2, 2)))
    with pytest.raises(ValueError, match="matrices='flatten'"):
        optimizer.add_param_group({"params": parameters((3,), (2, 3, 4))})
    assert len(optimizer.param_groups) == 1


@every_companied_class
def test_three_dimensions_need_a_choice(cls: Any) -> None:
    with pytest.raises(ValueError, match=r"matrices='flatten' \(a convolution's weights\) or matrices='batch'"):
        cls(parameters((2, 3, 4)))


@pytest.mark.parametrize("heads", [0, -1, 1.5, "2", True])
def test_numbers_of_heads_that_are_none(heads: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="heads"):
        Muon(parameters((4, 4)), heads=heads)


def test_heads_must_divide_the_rows() -> None:
    with pytest.raises(ValueError, match=r"heads=3 does not divide the 4 rows of a parameter of shape \(4, 6\)"):
        Muon(parameters((4, 6)), heads=3)


# -- the companion ---------------------------------------------------------------------------------------------------


@every_companied_class
@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_the_companion_is_adamw_bit_by_bit(cls: Any, decay: float) -> None:
    shapes = ((4,), (), (3, 1, 1))
    ours, theirs = parameters(*shapes, dtype=torch.float32), parameters(*shapes, dtype=torch.float32)
    matrix = nn.Parameter(torch.ones(2, 3))
    optimizer = cls([matrix, *ours], adamw_lr=0.1, adamw_betas=(0.8, 0.9), adamw_eps=1e-6, adamw_weight_decay=decay)
    moved = walk(optimizer)[1:]
    reference = AdamW(theirs, lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=decay)
    assert all(map(same, moved, walk(reference)))
    for p, q in zip(ours, theirs, strict=True):
        assert all(same(optimizer.state[p][name], held) for name, held in reference.state[q].items())


def test_companions_defaults_are_jordans() -> None:
    _, ours = both = parameters((2, 2), (5,))
    twin = nn.Parameter(ours.detach().clone())
    walk(AdamW([twin], lr=3e-4, betas=(0.9, 0.95), eps=1e-10, weight_decay=0))
    walk(Muon(both))
    assert same(ours.detach(), twin.detach())


MOVES: list[tuple[str, Any, int]] = [
    ("adamw_lr", 0.5, 1),
    ("adamw_betas", (0.5, 0.95), 1),
    ("adamw_betas", (0.9, 0.5), 1),
    ("adamw_eps", 0.1, 1),
    ("adamw_weight_decay", 0.5, 1),
    ("matrices", "batch", 0),
    ("heads", 2, 0),
    ("ns_dtype", "float64", 0),
]
"""Option, value, and which of the two parameters it moves."""


@every_companied_class
@pytest.mark.parametrize(("name", "value", "moved"), MOVES, ids=[f"{n}={v}" for n, v, _ in MOVES])
def test_every_option_moves_its_own_parameters(cls: Any, name: str, value: Any, moved: int) -> None:
    def ends(options: Options) -> list[Tensor]:
        return walk(cls(parameters((4, 3, 2), (4,)), **{"matrices": "flatten", **options}))

    assert [not same(a, b) for a, b in zip(ends({}), ends({name: value}), strict=True)] == [moved == 0, moved == 1]


@every_companied_class
def test_decay_without_the_rate(cls: Any) -> None:
    """``lr_in_decay=False``, in both groups."""
    params = parameters((3, 2), (4,))
    before = [p.detach().clone() for p in params]
    options: Options = {"lr": 0.0, "adamw_lr": 0.0, "weight_decay": 0.25, "adamw_weight_decay": 0.5}
    after = walk(cls(params, lr_in_decay=False, **options), steps=1)
    torch.testing.assert_close(after[0], before[0] * 0.75)
    torch.testing.assert_close(after[1], before[1] * 0.5)


# -- schedules and files ---------------------------------------------------------------------------------------------


def test_schedulers_act_on_both_rates() -> None:
    optimizer = Muon(parameters((2, 2), (2,)), lr=0.5, adamw_lr=0.25)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(2):
        walk(optimizer, 1)
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.0625]
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        Muon(parameters((2, 2), (2,))), max_lr=[0.5, 0.25], total_steps=10, cycle_momentum=False
    )
    assert len(cycle.get_last_lr()) == 2


@every_companied_class
@pytest.mark.parametrize("matrices", ["flatten", "batch"])
@pytest.mark.parametrize("heads", [None, 2])
def test_a_resumed_run_is_the_uninterrupted_one(cls: Any, matrices: str, heads: int | None) -> None:
    shapes = ((4, 6), (4, 2, 2, 3), (2, 4, 5), (5,))
    options: Options = {"matrices": matrices, "heads": heads, "lr": 0.1, "adamw_lr": 0.1}
    straight = cls(parameters(*shapes, dtype=torch.float32), **options)
    walk(straight, 3)
    saved = through_file(straight.state_dict())
    held = [p.detach().clone() for group in straight.param_groups for p in group["params"]]
    resumed = cls([nn.Parameter(torch.zeros(shape)) for shape in shapes], **options)
    for p, value in zip((p for group in resumed.param_groups for p in group["params"]), held, strict=True):
        p.data.copy_(value)
    resumed.load_state_dict(saved)
    assert all(map(same, walk(resumed, 3, 3), walk(straight, 3, 3)))


def test_a_copy_continues_as_the_original() -> None:
    optimizer = Muon(parameters((4, 6), (2, 3, 2, 2), (5,)))
    walk(optimizer)
    twin = copy.deepcopy(optimizer)
    assert all(map(same, walk(optimizer), walk(twin)))


def test_state_dicts_go_to_torch_and_come_back() -> None:
    """torch has the class for matrices alone, and AdamW for the others: each of our groups is one of theirs."""
    ours = Muon(parameters((4, 3), (3, 5), dtype=torch.float32), lr=0.1)
    walk(ours)
    theirs = torch.optim.Muon(parameters((4, 3), (3, 5), dtype=torch.float32), lr=0.1)
    walk(theirs)
    again = Muon(parameters((4, 3), (3, 5), dtype=torch.float32))
    again.load_state_dict(theirs.state_dict())
    assert again.param_groups[0]["lr"] == 0.1
    back = torch.optim.Muon(parameters((4, 3), (3, 5), dtype=torch.float32))
    back.load_state_dict(ours.state_dict())
    for optimizer in (again, back):
        for p, q in zip(optimizer.param_groups[0]["params"], ours.param_groups[0]["params"], strict=True):
            held = optimizer.state[p]["momentum_buffer"]
            torch.testing.assert_close(held, ours.state[q]["momentum_buffer"])


def test_names_find_their_state_in_another_order() -> None:
    names = ["a", "b", "c", "d"]
    shapes = [(4, 3), (5,), (4, 3), (5,)]
    one = Muon(list(zip(names, parameters(*shapes), strict=True)))
    walk(one)
    other = Muon(list(zip(names[::-1], parameters(*shapes[::-1]), strict=True)))
    other.load_state_dict(through_file(one.state_dict()))

    def by_name(optimizer: Any) -> dict[str, Any]:
        return {
            name: optimizer.state[p]
            for group in optimizer.param_groups
            for name, p in zip(group["param_names"], group["params"], strict=True)
        }

    for name, held in by_name(one).items():
        assert all(same(by_name(other)[name][key], value) for key, value in held.items())


# -- parameters as matrices ------------------------------------------------------------------------------------------


def end(cls: Any, shapes: list[tuple[int, ...]], seen: Any = lambda x: x, **options: Any) -> list[Tensor]:
    """Where parameters arrive that are ``seen`` in another shape, with gradients to match."""
    params = [nn.Parameter(seen(drawn(shape, seed)).clone()) for seed, shape in enumerate(shapes)]
    optimizer = cls(params, **options)
    for step in range(4):
        for seed, (shape, p) in enumerate(zip(shapes, params, strict=True)):
            p.grad = seen(drawn(shape, 100 + 10 * step + seed)).clone()
        optimizer.step()
    return [p.detach() for p in params]


EXACT: Options = {"ns_dtype": "float64", "lr": 0.1}


@every_companied_class
@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 3, 1, 1), (2, 1, 1, 3), (4, 1, 3, 3), (4, 2, 2, 3, 2)], ids=str)
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_a_convolution_is_its_matrix(cls: Any, shape: tuple[int, ...], adjust: str) -> None:
    """Also for the factor of the rate, which others take from the kernel's sizes or from two of the dimensions."""
    options = {**EXACT, **({"adjust_lr_fn": adjust} if "adjust_lr_fn" in cls.fields else {})}
    (convolution,) = end(cls, [shape], **options)
    (matrix,) = end(cls, [shape], lambda x: x.reshape(shape[0], -1), **options)
    torch.testing.assert_close(convolution.reshape(shape[0], -1), matrix, rtol=1e-13, atol=1e-13)


@every_companied_class
@pytest.mark.parametrize("foreach", [False, True])
def test_channels_last_changes_nothing(cls: Any, foreach: bool) -> None:
    shapes = [(4, 3, 2, 2)] * 2
    options = {**EXACT, "foreach": foreach}
    plain = end(cls, shapes, **options)
    last = end(cls, shapes, lambda x: x.to(memory_format=torch.channels_last), **options)
    for a, b in zip(plain, last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)
        assert b.is_contiguous(memory_format=torch.channels_last)


@every_companied_class
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5)], ids=str)
def test_a_stack_is_its_matrices(cls: Any, shape: tuple[int, ...]) -> None:
    (stack,) = end(cls, [shape], matrices="batch", **EXACT)
    for index, found in enumerate(stack.reshape(-1, *shape[-2:])):
        (alone,) = end(cls, [shape], lambda x, i=index: x.reshape(-1, *shape[-2:])[i], **EXACT)
        torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)


@every_companied_class
@pytest.mark.parametrize("foreach", [False, True])
def test_heads_are_parameters_of_their_own(cls: Any, foreach: bool) -> None:
    shapes = [(6, 4)] * 2
    together = end(cls, shapes, heads=3, foreach=foreach, **EXACT)
    for index in range(3):
        alone = end(cls, shapes, lambda x, i=index: x[2 * i : 2 * i + 2], **EXACT)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[2 * index : 2 * index + 2], b, rtol=1e-12, atol=1e-12)


@every_companied_class
def test_fused_query_key_and_value_of_torchs_attention(cls: Any) -> None:
    attention = nn.MultiheadAttention(8, 2)
    optimizer = cls([{"params": [attention.in_proj_weight], "heads": 3}], **EXACT)
    attention.in_proj_weight.grad = torch.ones_like(attention.in_proj_weight)
    optimizer.step()
    assert attention.in_proj_weight.isfinite().all()


@every_companied_class
@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1), (0, 3)], ids=str)
def test_thin_matrices_move_along_their_gradient(cls: Any, shape: tuple[int, int]) -> None:
    """A matrix of one row or column has one singular value: a normalised step."""
    (p,) = parameters(shape)
    before = p.detach().clone()
    p.grad = drawn(shape, 9)
    cls([p], **EXACT, weight_decay=0.0).step()
    moved = before - p.detach()
    assert moved.isfinite().all()
    assert not p.numel() or (moved * p.grad).sum() > 0


@every_companied_class
def test_bfloat16_parameters_step_with_bfloat16_state_like_them(cls: Any) -> None:
    wide = parameters((4, 6), (5,), dtype=torch.float32)
    half = [nn.Parameter(p.detach().bfloat16()) for p in wide]
    for p, q in zip(wide, half, strict=True):
        p.data.copy_(q.data)
    for optimizer in (cls(wide, lr=0.1, adamw_lr=0.1), cls(half, lr=0.1, adamw_lr=0.1)):
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            p.grad = drawn(tuple(p.shape), 5).bfloat16().to(p)
        optimizer.step()
    for p, q in zip(wide, half, strict=True):
        assert q.dtype == torch.bfloat16
        torch.testing.assert_close(q.detach().float(), p.detach(), rtol=2**-7, atol=2**-7)


@every_companied_class
def test_a_missing_gradient_leaves_parameter_and_state(cls: Any) -> None:
    """Jordan's code steps on zeros there, and so decays."""
    a, b, v = parameters((3, 2), (3, 2), (4,))
    optimizer = cls([a, b, v])
    walk(optimizer, 2)
    before = [x.clone() for x in (b.detach(), *optimizer.state[b].values())]
    a.grad, b.grad, v.grad = torch.ones_like(a), None, None
    optimizer.step()
    assert all(map(same, before, (b.detach(), *optimizer.state[b].values())))


def test_exact_precision_reaches_the_companied_class() -> None:
    """The helper that judges rules against oracles replaces the precision of the rule for matrices."""
    assert exactly(Muon).rule.precision == torch.float64


def test_groups_for_matrices_without_others() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Embedding(4, 4))
    del model[2]
    made = groups.for_matrices(model)
    assert [(g["name"], len(g["params"])) for g in made] == [("matrices", 1), ("others", 1)]


class Transformer(nn.Module):
    """A small language model: embeddings of tokens and places, one block, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(13, 8), nn.Embedding(6, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 13, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.tokens(x) + self.places(torch.arange(x.shape[1]))))  # type: ignore[no-any-return]


@every_companied_class
def test_a_transformer_trains_with_its_embeddings_and_head_under_adamw(cls: Any) -> None:
    torch.manual_seed(0)
    model = Transformer()
    optimizer = cls.for_model(model, report=False, lr=0.01, adamw_lr=0.01)
    matrices, others = (set(group["param_names"]) for group in optimizer.param_groups)
    assert matrices == {
        "block.self_attn.in_proj_weight",
        "block.self_attn.out_proj.weight",
        "block.linear1.weight",
        "block.linear2.weight",
    }
    assert {"tokens.weight", "places.weight", "head.weight"} <= others
    x = torch.randint(13, (8, 6))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), x.flatten())
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


OF_MATRICES = ["Muon", "Scion", "SOAP", "Shampoo", "SPlus", "PSGDKron", "QUAD"]
every_class_of_matrices = pytest.mark.parametrize("cls", [getattr(steepest, name) for name in OF_MATRICES])


@every_class_of_matrices
@pytest.mark.parametrize("mark", ["_is_flat_param", "_fsdp_flattened"])
def test_flattened_parameters_are_refused(cls: Any, mark: str) -> None:
    """On a part of a matrix every step is another one, without any error."""
    p = nn.Parameter(torch.zeros(12))
    setattr(p, mark, True)
    with pytest.raises(
        ValueError, match=rf"{cls.__name__} needs whole matrices, and FullyShardedDataParallel .*\(12,\)"
    ):
        cls([p])
