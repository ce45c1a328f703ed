"""Keras on torch: ours inside Keras's is ours, resumes to the same bits, and is Keras's own where that has the rule."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cases import CLASSES, NATIVE, Options, defaults
from steepest import Optimizer as Ours
from variants.of_keras import KERAS
from variants.peers import SCHEDULES, start_and_gradients

from .support import need

need("keras")

import keras

import steepest.keras
from steepest.keras import EvaluateAveraged, Optimizer

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

EPS = np.finfo(np.float64).eps
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


def is_for_keras(cls: type[Ours]) -> bool:
    """Its rule steps on dense gradients, whichever dimensions are outputs (AdamMini's blocks are rows of outputs)."""
    is_fed = cls.takes_estimates or cls.rule.sparse == "lazy" or cls.needs_loss(defaults(cls))
    return cls.rule.kind in ("pointwise", "per_tensor") and not is_fed


TAKEN = {name: cls for name, cls in CLASSES.items() if is_for_keras(cls)}
OPTIONS: dict[str, Options] = {
    "adammini": {"block": "tensor"},
    "sgd": {"momentum": 0.9},
    "ranger": {"centralize": False},
}
"""Options of classes that are refused without, or keep no state."""


def model(optimizer: Any, **compiled: Any) -> Any:
    keras.utils.set_random_seed(1)
    layers = [keras.Input((4,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)]
    made = keras.Sequential(layers)
    made.compile(optimizer=optimizer, loss="mse", **compiled)
    return made


def fit(made: Any, epochs: int = 1, **given: Any) -> Any:
    return made.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **given)


def weights(made: Any) -> Any:
    return np.concatenate([x.ravel() for x in made.get_weights()])


def variables(arrays: Any, dtype: str = "float32") -> list[Any]:
    return [keras.Variable(x, dtype=dtype, name=f"kernel_{place}") for place, x in enumerate(arrays)]


def apply(optimizer: Any, grads: Any, trained: list[Any]) -> None:
    optimizer.apply(
        [keras.ops.convert_to_tensor(g, dtype=v.dtype) for g, v in zip(grads, trained, strict=True)], trained
    )


def numbers(trained: list[Any]) -> list[Any]:
    return [v.numpy().copy() for v in trained]


# -- the same steps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_ours_to_the_bit_through_a_saved_file(name: str) -> None:
    """Two steps, saved, loaded by another optimizer over the same weights, two more: as four steps of our class.

    The rate changes after the first step.
    """
    options = OPTIONS.get(name, {})
    start, grads = start_and_gradients()
    first = float(np.float32(TAKEN[name].fields["lr"].default / 2))  # Keras's rates are float32
    trained, optimizer = variables(start), Optimizer(name, first, **options)
    apply(optimizer, grads[0], trained)
    optimizer.learning_rate = first / 4
    apply(optimizer, grads[1], trained)
    saved: dict[str, Any] = {}
    optimizer.save_own_variables(saved)
    again, other = variables(numbers(trained)), Optimizer.from_config(optimizer.get_config())
    other.build(again)
    other.load_own_variables(saved)
    for g in grads[2:4]:
        apply(other, g, again)

    params = [torch.nn.Parameter(torch.tensor(x, dtype=torch.float32)) for x in start]
    ours = TAKEN[name](params, lr=first, **options)
    for step, of_step in enumerate(grads[:4]):
        ours.param_groups[0]["lr"] = first / 4 if step else first
        for p, g in zip(params, of_step, strict=True):
            p.grad = torch.tensor(g, dtype=torch.float32)
        ours.step()
    assert all(np.array_equal(a, p.detach().numpy()) for a, p in zip(numbers(again), params, strict=True))
    (inner,), (expected,) = other.inner.param_groups, ours.param_groups
    assert {key: inner[key] for key in expected.keys() - {"params"}} == {
        key: expected[key] for key in expected.keys() - {"params"}
    }
    assert other.inner.executor == ours.executor
    assert name not in NATIVE or other.inner.executor == "native"
    assert int(other.iterations) == 4


@pytest.fixture
def double(float64_default: None) -> Iterator[None]:
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("comparison", [c for c in KERAS if c.apart is None], ids=lambda c: c.theirs)
def test_it_is_kerass_own(comparison: Any) -> None:
    """Under a rate that rises and falls, with the arguments that docs/variants.md names."""
    options = {**comparison.numbers, **comparison.selecting}
    start, grads = start_and_gradients()
    both = [eval(comparison.theirs, {"keras": keras}), Optimizer(comparison.name, options.pop("lr"), **options)]
    sides = [variables(start, "float64"), variables(start, "float64")]
    base = float(both[0].learning_rate)
    assert float(both[1].learning_rate) == base
    for multiplier, g in zip(SCHEDULES["changing"][:12], grads[:12], strict=True):
        for optimizer, trained in zip(both, sides, strict=True):
            optimizer.learning_rate = base * multiplier
            apply(optimizer, g, trained)
    for a, b, begin in zip(*map(numbers, sides), start, strict=True):
        assert np.abs(a - b).max() <= 4 * 12 * EPS * max(1.5, np.abs(a).max())
        assert np.abs(a - begin).max() > 1e-6


# -- models ----------------------------------------------------------------------------------------------------------

SAVED: list[tuple[str, Options]] = [
    ("adamw", {"weight_decay": 0.5, "no_weight_decay": ["bias"], "learning_rate": 0.1}),
    ("sgd", {"momentum": 0.9, "gradient_accumulation_steps": 3}),
    ("prodigy", {"use_ema": True, "ema_momentum": 0.5}),
    ("adamwschedulefree", {"clipnorm": 0.1}),
    ("nadam", {"state_dtype": "bfloat16", "ema_decay": "warmup"}),
]


@pytest.mark.parametrize(("name", "options"), SAVED)
def test_a_saved_model_resumes_to_the_same_bits(name: str, options: Options, tmp_path: Path) -> None:
    straight = model(Optimizer(name, **options))
    fit(straight)
    straight.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == straight.optimizer.get_config()
    before = weights(straight)
    for made in (straight, loaded):
        fit(made, 2)
    assert np.array_equal(weights(straight), weights(loaded))
    assert not np.array_equal(weights(straight), before)


def test_mixed_precision_resumes_too(tmp_path: Path) -> None:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        straight = model(Optimizer("adamw", 0.01))
        assert isinstance(straight.optimizer, keras.optimizers.LossScaleOptimizer)
        fit(straight)
        straight.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        for made in (straight, loaded):
            fit(made)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.array_equal(weights(straight), weights(loaded))


def test_fit_is_the_training_loop_of_pytorch() -> None:
    made = model(Optimizer("adam", 0.05))
    kernels = [torch.nn.Parameter(torch.tensor(x)) for x in made.get_weights()]
    ours = CLASSES["adam"](kernels, lr=float(np.float32(0.05)))
    fit(made)
    for batch in range(0, 32, 8):
        ours.zero_grad()
        w1, b1, w2, b2 = kernels
        out = torch.tanh(torch.tensor(X[batch : batch + 8]) @ w1 + b1) @ w2 + b2
        (out - torch.tensor(Y[batch : batch + 8])).square().mean().backward()
        ours.step()
    for a, p in zip(made.get_weights(), kernels, strict=True):
        np.testing.assert_allclose(a, p.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_rates_are_those_of_schedules_and_callbacks() -> None:
    rates = keras.optimizers.schedules.PolynomialDecay(0.4, 4, end_learning_rate=0.0)
    trained, optimizer = variables([np.zeros(1)]), Optimizer("sgd", rates)
    for _ in range(4):
        apply(optimizer, [np.ones(1)], trained)
    assert numbers(trained)[0].item() == pytest.approx(-(0.4 + 0.3 + 0.2 + 0.1))

    halved = model(Optimizer("sgd", 0.4))
    fit(halved, 3, callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)])
    assert halved.optimizer.inner.param_groups[0]["lr"] == pytest.approx(0.1)
    reduced = model(Optimizer("sgd", 0.1))
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.1, patience=1, min_delta=1e9)
    fit(reduced, 3, callbacks=[plateau])
    assert reduced.optimizer.inner.param_groups[0]["lr"] == pytest.approx(0.01)

    trained, called = variables([np.zeros(1)]), Optimizer("sgd", lambda: 0.25)
    apply(called, [np.ones(1)], trained)
    assert numbers(trained)[0].item() == -0.25


CLIPS: list[tuple[Options, list[list[float]]]] = [
    ({"clipvalue": 1.0}, [[1.0, 1.0], [1.0]]),
    ({"clipnorm": 1.0}, [[0.6, 0.8], [1.0]]),
    ({"global_clipnorm": 1.3}, [[0.3, 0.4], [1.2]]),
    ({"max_norm": 1.3}, [[0.3, 0.4], [1.2]]),
    ({"loss_scale_factor": 2.0}, [[1.5, 2.0], [6.0]]),
]


@pytest.mark.parametrize(("option", "expected"), CLIPS)
def test_gradients_are_clipped_and_unscaled(option: Options, expected: list[list[float]]) -> None:
    trained = variables([np.zeros(2), np.zeros(1)])
    apply(Optimizer("sgd", 1.0, **option), [np.array([3.0, 4.0]), np.array([12.0])], trained)
    for got, wanted in zip(numbers(trained), expected, strict=True):
        np.testing.assert_allclose(-got, wanted, rtol=1e-5)


def test_accumulated_gradients_are_one_step_of_their_mean() -> None:
    trained, optimizer = variables([np.zeros(2)]), Optimizer("sgd", 1.0, gradient_accumulation_steps=2)
    apply(optimizer, [np.array([1.0, 2.0])], trained)
    assert numbers(trained)[0].tolist() == [0.0, 0.0]
    apply(optimizer, [np.array([3.0, 0.0])], trained)
    assert numbers(trained)[0].tolist() == [-2.0, -1.0]


def test_kerass_average_ends_up_in_the_model() -> None:
    trained, optimizer = variables([np.zeros(1)]), Optimizer("sgd", 1.0, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        apply(optimizer, [np.ones(1)], trained)
    optimizer.finalize_variable_values(trained)
    assert numbers(trained)[0].item() == 0.5 * -1.0 + 0.5 * -2.0


@pytest.mark.parametrize("by", ["argument", "names", "variables"])
def test_excluded_variables_do_not_decay(by: str) -> None:
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(2, bias_initializer="ones", name="bias_layer")
    layer.build((None, 2))
    kernel, bias = layer.trainable_variables
    before = kernel.numpy().copy()
    optimizer = Optimizer("adamw", 0.5, weight_decay=0.5, no_weight_decay=["bias$"] if by == "argument" else ())
    if by == "names":
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    if by == "variables":
        optimizer.exclude_from_weight_decay([bias])
    again = Optimizer.from_config(optimizer.get_config())
    apply(again, [np.zeros((2, 2)), np.zeros(2)], [kernel, bias])
    np.testing.assert_array_equal(bias.numpy(), [1.0, 1.0])
    np.testing.assert_allclose(kernel.numpy(), 0.75 * before, rtol=1e-6)
    with pytest.raises(ValueError, match="no variable is found by 'bais' in no_weight_decay; there are bias_layer/"):
        Optimizer("adamw", no_weight_decay=["bais"]).build([kernel, bias])
    with pytest.raises(ValueError, match="before the optimizer is built"):
        again.exclude_from_weight_decay(var_names=["kernel"])


def test_gradients_stay_where_they_are_and_missing_ones_leave_weights() -> None:
    trained, optimizer = variables([np.ones(2), np.ones(1)]), Optimizer("adamw", 0.1)
    mark = torch.full((2,), 7.0)
    trained[0].value.grad = mark
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([None, torch.ones(1)], trained)
    assert trained[0].value.grad is mark
    assert trained[1].value.grad is None
    assert numbers(trained)[0].tolist() == [1.0, 1.0]
    assert numbers(trained)[1].item() < 1.0


def test_averaged_weights_are_evaluated() -> None:
    for optimizer in (Optimizer("adamwschedulefree", 0.05), Optimizer("sgd", 0.05, ema_decay=0.9)):
        made = model(optimizer)
        shown = fit(made, 2, validation_data=(X, Y), callbacks=[EvaluateAveraged()]).history["val_loss"][-1]
        trained = weights(made)
        with made.optimizer.inner.averaged():
            assert made.evaluate(X, Y, verbose=0) == pytest.approx(shown, rel=1e-5)
        assert np.array_equal(weights(made), trained)
        assert made.evaluate(X, Y, verbose=0) != pytest.approx(shown, rel=1e-5)
    with pytest.raises(TypeError, match=r"goes with steepest.keras.Optimizer"):
        model("sgd").evaluate(X, Y, verbose=0, callbacks=[EvaluateAveraged()])


def test_it_is_serialized_as_keras_serializes() -> None:
    rates = keras.optimizers.schedules.CosineDecay(0.1, 10)
    made = Optimizer("adam", rates, beta1=0.5, amsgrad=True, clipnorm=1.0, name="mine")
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert again.get_config() == made.get_config()
    assert tuple(again.get_config()["betas"]) == (0.5, 0.999)
    assert again.name == "mine"
    with pytest.raises(TypeError, match=r"ema_decay=.* cannot be saved with a model; give a number or a name"):
        Optimizer("sgd", ema_decay=lambda n: 0.5).get_config()


# -- refusals --------------------------------------------------------------------------------------------------------

WRONG: list[tuple[tuple[Any, ...], Options, type[Exception], str]] = [
    (("adm",), {}, ValueError, "did you mean 'adam'"),
    ((3,), {}, TypeError, "optimizer must be the name of one"),
    (("adam",), {"lr": 0.1}, TypeError, "Keras calls it learning_rate"),
    (("adam",), {"learning_rat": 0.1}, TypeError, "did you mean 'learning_rate'"),
    (("adam",), {"clipnrm": 0.1}, TypeError, "did you mean 'clipnorm'"),
    (("sgd",), {"momentun": 0.1}, TypeError, "did you mean 'momentum'"),
    (("adam", -1.0), {}, ValueError, "lr must be a number >= 0"),
    (("adam", "fast"), {}, TypeError, "lr must be a number >= 0"),
    (("adam",), {"betas": 0.9}, ValueError, "betas must be 2 numbers"),
    (("adam",), {"clipnorm": 1.0, "clipvalue": 1.0}, ValueError, "Only one of `clipnorm`"),
    (("adam",), {"differentiable": True}, TypeError, "leave it out"),
    (("adam",), {"capturable": True}, TypeError, "leave it out"),
    (("adam",), {"no_weight_decay": ["bias"]}, ValueError, "give weight_decay too"),
    (("adamw",), {"no_weight_decay": ["*"]}, ValueError, "not a regular expression: nothing to repeat"),
    (("adamw",), {"no_weight_decay": "bias"}, TypeError, "must be a list of regular expressions"),
]


@pytest.mark.parametrize(("args", "options", "error", "message"), WRONG)
def test_what_cannot_be_is_refused(args: Any, options: Options, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Optimizer(*args, **options)


def test_every_other_class_is_refused() -> None:
    for name in CLASSES.keys() - TAKEN.keys():
        with pytest.raises(ValueError, match="is not for Keras: it"):
            Optimizer(name)
    assert len(TAKEN) > 50


@pytest.mark.parametrize(("name", "options"), [("adammini", {}), ("adam", {"agc": 0.1}), ("ranger", {})])
def test_what_depends_on_which_dimension_is_the_output_is_refused(name: str, options: Options) -> None:
    with pytest.raises(ValueError, match="takes the first dimension of weights for outputs"):
        Optimizer(name, **options).build(variables([np.ones((2, 3))]))


def test_tensors_in_another_scope_are_refused() -> None:
    trained, optimizer = variables([np.ones(2)]), Optimizer("sgd")
    optimizer.build(trained)
    state = [v.value for v in optimizer.variables]
    with pytest.raises(RuntimeError, match="updates tensors in place: use apply"):
        optimizer.stateless_apply(state, [torch.ones(2)], [torch.ones(2)])


def test_state_of_another_optimizer_is_refused() -> None:
    trained, optimizer = variables([np.ones(2)]), Optimizer("adam")
    with pytest.raises(RuntimeError, match=r"call optimizer.build"):
        optimizer.load_own_variables({})
    apply(optimizer, [np.ones(2)], trained)
    saved: dict[str, Any] = {}
    optimizer.save_own_variables(saved)
    with_average = Optimizer("adam", use_ema=True)
    with_average.build(trained)
    with pytest.raises(ValueError, match="make both with the same arguments"):
        with_average.load_own_variables(saved)
    larger = Optimizer("adam")
    larger.build(variables([np.ones(3)]))
    with pytest.raises(ValueError, match="shape"):
        larger.load_own_variables(saved)


@pytest.mark.parametrize(
    ("backend", "advice"), [("jax", "steepest.optax"), ("tensorflow", "those of keras.optimizers")]
)
def test_other_backends_say_what_to_use(backend: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(RuntimeError, match=rf"this is '{backend}'; set KERAS_BACKEND=torch before .* use {advice}"):
        Optimizer("adam")


@pytest.mark.slow  # Keras on JAX, in a process of its own, takes eight seconds to import
def test_on_kerass_jax_backend_it_raises_at_construction() -> None:
    program = "from steepest.keras import Optimizer; print('imported'); Optimizer('adam')"
    settings = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", program], env=settings, capture_output=True, text=True, check=False)
    assert done.stdout == "imported\n"
    assert done.stderr.splitlines()[-1].startswith(
        "RuntimeError: steepest.keras.Optimizer runs on Keras's torch backend"
    )


def test_the_examples_run() -> None:
    assert doctest.testmod(steepest.keras).failed == 0
