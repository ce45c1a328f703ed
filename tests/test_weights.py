"""Weights that are evaluated and not trained: Schedule-Free's average, the slow weights of Lookahead, BatchNorm."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steepest
from cases import CLASSES, SWITCHES, same, through_file
from steepest.weights import TwoWeights

TWO = {name: cls for name, cls in CLASSES.items() if issubclass(cls, TwoWeights)}
every_class = pytest.mark.parametrize("cls", TWO.values(), ids=list(TWO))
SCHEDULE_FREE = {name: cls for name, cls in TWO.items() if cls.rule.trained is not None}
every_schedule_free_class = pytest.mark.parametrize("cls", SCHEDULE_FREE.values(), ids=list(SCHEDULE_FREE))


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(torch.linspace(-1, 2, 12).reshape(4, 3).to(dtype)), nn.Parameter(torch.ones(2, dtype=dtype))]


def descend(optimizer: Any, steps: int, start: int = 0) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for t in range(start, start + steps):
        source = torch.Generator().manual_seed(t)
        for p in params:
            noise = torch.randn(p.shape, generator=source, dtype=torch.float64)
            p.grad = (p.detach().double() - 0.5 + 0.3 * noise).to(p.dtype)
        optimizer.step()


def values(params: list[nn.Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in params]


@every_class
def test_a_new_optimizer_trains(cls: Any) -> None:
    descend(cls(parameters()), 1)


@every_class
def test_a_step_in_eval_mode_says_what_to_do(cls: Any) -> None:
    optimizer = cls(params := parameters())
    descend(optimizer, 6)
    optimizer.eval()
    before = values(params)
    with pytest.raises(RuntimeError, match=rf"{cls.__name__}\.step\(\) in eval mode .* call optimizer.train\(\)"):
        optimizer.step()
    assert all(map(same, values(params), before))


@every_class
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_switching_is_exact_and_idempotent(cls: Any, dtype: torch.dtype) -> None:
    """Also in bfloat16, where interpolating back and forth drifts; and a run that looks is the run that does not."""
    params, blind = parameters(dtype), parameters(dtype)
    optimizer, other = cls(params, lr=0.1), cls(blind, lr=0.1)
    for t in range(12):
        descend(optimizer, 1, t)
        descend(other, 1, t)
        trained = values(params)
        optimizer.eval()
        evaluated = values(params)
        optimizer.eval()
        assert all(map(same, values(params), evaluated))
        optimizer.train()
        optimizer.train()
        assert all(map(same, values(params), trained))
    assert not all(map(same, trained, evaluated))
    assert all(map(same, values(params), values(blind)))
    assert all("train_weights" not in held for held in optimizer.state.values())


@every_class
def test_the_context_is_the_mode(cls: Any) -> None:
    optimizer = cls(params := parameters())
    descend(optimizer, 6)
    with optimizer.averaged():
        inside = values(params)
        with pytest.raises(RuntimeError, match="averaged"):
            optimizer.step()
    optimizer.eval()
    assert all(map(same, values(params), inside))
    with optimizer.averaged():
        assert all(map(same, values(params), inside))
    assert all(map(same, values(params), inside))


@every_class
@pytest.mark.parametrize("saved_in_eval", [False, True])
@pytest.mark.parametrize("model_first", [False, True])
def test_saving_and_loading_in_either_mode_and_order(cls: Any, saved_in_eval: bool, model_first: bool) -> None:
    """The resumed run is the uninterrupted one, bit by bit, whichever is loaded first."""
    whole = cls(expected := parameters())
    descend(whole, 12)
    optimizer = cls(params := parameters())
    descend(optimizer, 6)
    if saved_in_eval:
        optimizer.eval()
    file, weights = through_file(optimizer.state_dict()), values(params)
    fresh = cls(loaded := parameters())
    if not model_first:
        fresh.load_state_dict(file)
    with torch.no_grad():
        for p, x in zip(loaded, weights, strict=True):
            p.copy_(x)
    if model_first:
        fresh.load_state_dict(file)
    assert [group["train_mode"] for group in fresh.param_groups] == [not saved_in_eval]
    fresh.train()
    descend(fresh, 6, 6)
    assert all(map(same, values(loaded), values(expected)))


@every_class
def test_copies_keep_the_mode(cls: Any) -> None:
    optimizer = cls(parameters())
    descend(optimizer, 6)
    optimizer.eval()
    other = copy.deepcopy(optimizer)
    other.train()
    descend(other, 1)
    assert not optimizer.param_groups[0]["train_mode"]


@every_class
def test_late_groups_have_the_mode_of_the_others(cls: Any) -> None:
    optimizer = cls(parameters())
    descend(optimizer, 2)
    optimizer.eval()
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))]})
    assert [group["train_mode"] for group in optimizer.param_groups] == [False, False]
    optimizer.train()
    descend(optimizer, 1)


@every_schedule_free_class
def test_a_file_in_eval_mode_without_the_trained_weights(cls: Any) -> None:
    """The authors' package saves none: they are computed from x and z."""
    optimizer = cls(params := parameters(torch.float64))
    descend(optimizer, 6)
    trained = values(params)
    optimizer.eval()
    for held in optimizer.state.values():
        del held["train_weights"]
    optimizer.train()
    for p, x in zip(params, trained, strict=True):
        torch.testing.assert_close(p.detach(), x, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("cls", [steepest.SGDScheduleFree, steepest.AdamWScheduleFree])
@pytest.mark.parametrize("executor", ["reference", "foreach", "native"])
def test_evaluated_weights_are_the_average(cls: Any, executor: str) -> None:
    """With a constant rate, x is the mean of all z, here kept by hand. RAdam's rate is not constant."""
    optimizer = cls(params := parameters(torch.float64), lr=0.01, **SWITCHES[executor])
    seen: list[list[Tensor]] = []
    for t in range(8):
        descend(optimizer, 1, t)
        seen.append([optimizer.state[p]["z"].clone() for p in params])
    optimizer.eval()
    for index, p in enumerate(params):
        mean = torch.stack([of_step[index] for of_step in seen]).mean(0)
        torch.testing.assert_close(p.detach(), mean, rtol=1e-13, atol=1e-13)


def test_a_constant_gradient_moves_z_evenly_and_x_half_as_far() -> None:
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = steepest.SGDScheduleFree([p], lr=0.5)
    for t in range(1, 10):
        p.grad = torch.ones_like(p)
        optimizer.step()
        assert optimizer.state[p]["z"].item() == pytest.approx(-0.5 * t)
        with optimizer.averaged():
            assert p.item() == pytest.approx(-0.5 * (t + 1) / 2)


def test_rates_of_zero_weigh_nothing() -> None:
    optimizer = steepest.AdamWScheduleFree(params := parameters(), lr=0.0)
    before = values(params)
    descend(optimizer, 3)
    assert all(map(same, values(params), before))
    optimizer.param_groups[0]["lr"] = 0.01
    descend(optimizer, 1)
    with optimizer.averaged():
        assert all(torch.isfinite(p).all() for p in params)
        for p in params:
            torch.testing.assert_close(p.detach(), optimizer.state[p]["z"])


def test_radam_rests_for_four_steps() -> None:
    optimizer = steepest.RAdamScheduleFree(params := parameters())
    before = values(params)
    descend(optimizer, 4)
    assert all(map(same, values(params), before))
    descend(optimizer, 1, 4)
    assert not all(map(same, values(params), before))


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (steepest.SGDScheduleFree, {"momentum": 0.0}),
        (steepest.AdamWScheduleFree, {"betas": (0.0, 0.9)}),
        (steepest.RAdamScheduleFree, {"betas": (0.0, 0.9)}),
    ],
)
def test_an_interpolation_of_zero_is_refused(cls: Any, options: Any) -> None:
    with pytest.raises(ValueError, match="must be more than 0"):
        cls(parameters(), **options)


def test_gradients_stay_as_they_are() -> None:
    """The authors' package normalises them in place."""
    optimizer = steepest.AdamWScheduleFree(params := parameters())
    for p in params:
        p.grad = torch.full_like(p, 3.0)
    optimizer.step()
    assert all(p.grad is not None and p.grad.eq(3.0).all() for p in params)


def test_a_step_that_a_scaler_skips_changes_nothing() -> None:
    optimizer = steepest.AdamWScheduleFree(params := parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = values(params)
    for bad in (True, False):
        for p in params:
            p.grad = torch.full_like(p, torch.inf if bad else 4.0)
        scaler.scale(torch.ones(()))
        scaler.step(optimizer)
        scaler.update()
        if bad:
            assert optimizer.param_groups[0]["k"] == 0
            assert all(map(same, values(params), before))
    assert optimizer.param_groups[0]["k"] == 1
    for p, x in zip(params, before, strict=True):
        assert same(optimizer.state[p]["z"] + 0.0025 * (x - optimizer.state[p]["z"]).sign(), x) or p.ne(x).any()


# -- other weights ---------------------------------------------------------------------------------------------------


def test_lookaheads_slow_weights_can_be_evaluated() -> None:
    optimizer = steepest.SGD(params := parameters(), lr=0.1, lookahead=(4, 0.5))
    descend(optimizer, 6)
    own = values(params)
    with optimizer.averaged():
        assert all(same(p.detach(), optimizer.state[p]["slow"]) for p in params)
        assert not all(map(same, values(params), own))
    assert all(map(same, values(params), own))


def test_statistics_of_batchnorm_are_those_of_the_evaluated_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = steepest.SGDScheduleFree(model.parameters(), lr=0.5)
    batches = [torch.randn(16, 3) for _ in range(4)]
    for x in batches:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    trained = values(list(model.parameters()))
    steepest.update_bn(model, batches, optimizer)
    assert all(map(same, values(list(model.parameters())), trained))
    optimizer.eval()
    expected = torch.stack([model[0](x).mean(0) for x in batches]).mean(0)
    torch.testing.assert_close(model[1].running_mean, expected)
    with pytest.raises(RuntimeError, match="no averaged weights are kept"):
        steepest.update_bn(model, batches, steepest.SGD(model.parameters()))


class Net(nn.Module):
    """A linear model as the Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        outputs = self.linear(x).squeeze(-1)
        return {"loss": (outputs - labels).square().mean(), "logits": outputs}


def hugging_face(folder: Any, data: list[Any], resume: str | None) -> tuple[Any, list[Tensor]]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    model = Net()
    optimizer = steepest.AdamWScheduleFree(model.parameters(), lr=0.05)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=3,
        per_device_train_batch_size=8,
        eval_strategy="epoch",
        save_strategy="epoch",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        lr_scheduler_type="constant",
    )
    trainer = transformers.Trainer(
        model, arguments, train_dataset=data, eval_dataset=data, optimizers=(optimizer, None)
    )
    trainer.train(resume_from_checkpoint=resume)
    return optimizer, values(list(model.parameters()))


def test_the_hugging_face_trainer_switches_and_resumes(tmp_path: Any) -> None:
    """It calls train() before a step and eval() before an evaluation, after which it saves."""
    source = torch.Generator().manual_seed(1)
    data = [{"x": torch.randn(4, generator=source), "labels": torch.randn((), generator=source)} for _ in range(64)]
    optimizer, weights = hugging_face(tmp_path, data, None)
    assert (optimizer.param_groups[0]["train_mode"], optimizer.param_groups[0]["k"]) == (False, 24)
    resumed, others = hugging_face(tmp_path, data, str(tmp_path / "checkpoint-16"))
    assert resumed.param_groups[0]["k"] == 24
    assert all(map(same, weights, others))
