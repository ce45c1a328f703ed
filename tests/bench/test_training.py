"""Training steps: models without data sets, times by part, and only what was really compiled is called compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

from steepest import registry
from steepest.bench import timing
from steepest.bench.implementations import Implementation, implementations
from steepest.bench.lane import UnavailableError
from steepest.bench.timing import Timer
from steepest.bench.train import cases, lane
from steepest.bench.train.group import TrainingEntry, TrainingGroup, run_group
from steepest.bench.train.lane import COMPILED, EAGER, Parts, TrainingLane, prepare
from steepest.study.data import digits, text

from .support import TINY_TRAINING, Clock, implementation

PARAMETERS = {
    "digits-mlp": 8_970,
    "fashion-cnn": 474_670,
    "char-transformer": 136_960,
    # Three tables of 256 x 384; six blocks of 12 matrices of 384 x 384 and 13 vectors; the last normalisation.
    "gpt-10m": 3 * 256 * 384 + 6 * (12 * 384**2 + 13 * 384) + 2 * 384,
    "gpt-10m-checkpoint": 10_942_464,
}


@pytest.fixture
def _one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample is one training step."""
    monkeypatch.setattr(timing, "SHORTEST_SAMPLE", 0.0)


def built(recipe: str, source: str) -> Implementation:
    found = implementations(registry.parse(recipe), ["default"], peers=False, torchs=["default"])
    return next(i for i in found if i.source == source)


@pytest.mark.parametrize("case", cases.CASES.values(), ids=lambda case: case.name)
def test_the_number_of_parameters(case: cases.TrainingCase) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in case.model().parameters()) == PARAMETERS[case.name]


def test_batches_have_the_shapes_of_the_workloads_data() -> None:
    for name, data in (("digits-mlp", digits.load()), ("char-transformer", text.load())):
        training = cases.CASES[name].training("cpu")
        inputs, targets = data.train.inputs, data.train.targets
        assert training.inputs.shape[1:] == inputs.shape[1:], name
        assert training.targets.shape[1:] == targets.shape[1:], name
        assert training.targets.dtype == targets.dtype, name
        assert len(training.inputs) == cases.CASES[name].batch_size, name


def test_models_and_batches_are_repeatable_and_leave_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, again = TINY_TRAINING.training("cpu"), TINY_TRAINING.training("cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(map(torch.equal, [*first.params, first.inputs], [*again.params, again.inputs]))
    assert first.params[0] is not again.params[0]


def test_gradients_are_computed_anew() -> None:
    training = TINY_TRAINING.training("cpu")
    training.forward_backward()
    first = [p.grad.clone() for p in training.params if p.grad is not None]
    training.forward_backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(training.params, first, strict=True))  # type: ignore[arg-type]


def test_activation_checkpointing_changes_no_gradient() -> None:
    plain = cases.CASES["char-transformer"].training("cpu")
    blocks = [cases.Recomputed(block) for block in cast(Any, plain.model).blocks]
    states = torch.rand(2, 5, 64)
    for block in blocks[:2]:
        computed = [torch.autograd.grad(b(states).sum(), [*b.parameters()]) for b in (block, block.block)]
        assert all(map(torch.equal, *computed))


def test_all_blocks_of_the_checkpointed_gpt_are_recomputed() -> None:
    with torch.device("meta"):
        kinds = [type(block).__name__ for block in cases.recomputing_gpt().blocks]
    assert kinds == ["Recomputed"] * 6 + ["LayerNorm"]


def test_a_sample_tells_the_parts_of_a_training_step() -> None:
    clock = Clock()
    ready = TrainingLane(clock.takes(3.0, "backward"), clock.takes(0.5, "step"), steps=2)
    assert ready.sample(clock.timer) == Parts(3.0, 0.5)
    assert Parts(3.0, 0.5).whole == 3.5
    assert clock.order == ["backward", "step"] * 2


def test_a_sample_has_as_many_training_steps_as_make_ten_milliseconds() -> None:
    clock = Clock()
    ready = TrainingLane(clock.takes(3e-3), clock.takes(0.5e-3))
    ready.find_steps(clock.timer)
    assert ready.steps == 4


def test_an_optimizer_that_does_nothing_is_not_timed() -> None:
    still = Implementation("torch", "default", lambda params: torch.optim.SGD(params, lr=0.0))
    with pytest.raises(UnavailableError, match="leaves the parameters as they are"):
        prepare(still, TINY_TRAINING.training("cpu"), False, Timer())


def entry(source: str, compiled: str, *samples: tuple[float, float]) -> TrainingEntry:
    return TrainingEntry(source, "default", compiled, samples=tuple(Parts(*sample) for sample in samples))


def test_ratios_are_to_torchs_fastest_of_the_same_way() -> None:
    ours, theirs = entry("steepest", "no", (6.0, 1.0), (6.0, 2.0), (6.0, 3.0)), entry("torch", "no", (6.0, 4.0))
    fused = replace(entry("torch", "no", (12.0, 3.0)), mode="fused")
    compiled = entry("torch", "model", (1.0, 1.0))
    group = TrainingGroup("tiny", "SGD", 3, (ours, theirs, fused, compiled))
    assert ours.quartiles("step") == (1.5, 2.0, 2.5)
    assert ours.median("whole") == 8.0
    assert ours.share_of_step == 0.25
    assert (group.ratio(ours, "step"), group.ratio(ours, "whole")) == (1.5, 1.25)
    assert group.ratio(entry("steepest", "model+step", (1.0, 1.0)), "step") is None
    assert group.has_own
    assert not replace(group, entries=(theirs,)).has_own


class Broken(torch.nn.Module):
    """A model whose compiler fails when it is called."""

    def forward(self, _: object) -> None:
        raise RuntimeError("No working C++ compiler\nsearched in: nowhere")


@pytest.mark.usefixtures("_one_step")
def test_a_compiler_that_fails_leaves_the_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases.Training, "compiled", lambda training: replace(training, model=Broken()))
    taking_part = [implementation("torch", "default", Clock(), 1.0)]
    group = run_group(TINY_TRAINING, "SGD", taking_part, [EAGER, *COMPILED], 2, Timer(), "cpu")
    assert [(e.compiled, len(e.samples)) for e in group.measured] == [("no", 2)]
    assert {e.compiled: e.unavailable for e in group.entries if e.unavailable} == dict.fromkeys(
        ["model", "model+step"], "RuntimeError: No working C++ compiler"
    )


@pytest.mark.usefixtures("_one_step")
@pytest.mark.parametrize(("graphs", "source"), [((1, 1), "torch"), ((1, 2), "steepest")])
def test_a_step_that_runs_uncompiled_is_not_called_compiled(
    graphs: tuple[int, int], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.compile may make no graph, or a graph of something else while the step runs as it is."""
    counted = iter(graphs)
    monkeypatch.setattr(torch, "compile", lambda step: step)
    monkeypatch.setattr(lane, "graphs", lambda: next(counted))
    with pytest.raises(UnavailableError, match=r"^torch.compile makes no graph of this step"):
        prepare(built("adam", source), TINY_TRAINING.training("cpu"), True, Timer())


@pytest.fixture
def _fresh_compiler(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


compiles = [
    pytest.mark.slow,
    pytest.mark.usefixtures("_one_step", "_fresh_compiler"),
    # torch's own, on importing what its compiler needs
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]


class TestInductor:
    pytestmark = compiles

    def test_models_and_steps_are_compiled(self) -> None:
        found = implementations(registry.parse("adamw"), ["default"], peers=False, torchs=["default", "fused"])
        group = run_group(TINY_TRAINING, "AdamW", found, [EAGER, *COMPILED], 2, Timer(), "cpu")
        assert [(e.name, e.compiled) for e in group.entries if e.unavailable] == [("torch fused", "model+step")]
        (step,) = (e for e in group.measured if e.source == "steepest" and e.compiled == "model+step")
        assert step.executor == "compiled"

    def test_coded_state_is_not_compiled(self) -> None:
        with pytest.raises(UnavailableError, match="makes no graph of this step"):
            prepare(built("adamw[state_dtype=int8]", "steepest"), TINY_TRAINING.training("cpu"), True, Timer())

    def test_without_a_compiler_the_reason_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
        with pytest.raises(UnavailableError, match="C\\+\\+ compiler"):
            lane.compiled_model(TINY_TRAINING.training("cpu"))
