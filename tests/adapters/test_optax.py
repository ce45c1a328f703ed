"""Optax: every transformation is the reference executor, and optax's own where it has the rule."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cases import CLASSES, Options, alternatives, cases, is_valid
from steepest import Optimizer, transforms
from steepest.vocabulary import WORDS
from test_executors import everything_on
from variants.of_optax import OPTAX
from variants.peers import SCHEDULES

from .support import need

need("jax", "optax")

import jax
import jax.numpy as jnp
import optax

import steepest.optax
from steepest.optax import REFUSED, SPELLED, factory, transformation

EPS = np.finfo(np.float64).eps
SHAPES = [(5,), (2, 3, 2)]


def problem(steps: int, size: Any = 1.0) -> tuple[list[Any], list[list[Any]]]:
    """Parameters, and gradients for each step times ``size``."""
    rng = np.random.default_rng(3)

    def drawn() -> list[Any]:
        return [rng.normal(size=shape) for shape in SHAPES]

    return drawn(), [[size * x for x in drawn()] for _ in range(steps)]


def run(made: Any, start: Any, grads: list[Any]) -> tuple[list[Any], Any]:
    """The parameters after each step, and the state after the last one."""
    params, path = jax.tree.map(jnp.asarray, start), []
    state = made.init(params)
    for of_step in grads:
        updates, state = made.update(jax.tree.map(jnp.asarray, of_step), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path, state


def run_reference(cls: type[Optimizer], options: Options, start: Any, grads: list[Any]) -> list[Any]:
    params = [torch.nn.Parameter(torch.tensor(x)) for x in start]
    optimizer = cls(params, foreach=False, **options)
    path = []
    for of_step in grads:
        for p, g in zip(params, of_step, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        path.append([p.detach().numpy().copy() for p in params])
    assert optimizer.executor == "reference"
    return path


def distance(path: list[Any], other: list[Any]) -> float:
    pairs = ((a, b) for x, y in zip(path, other, strict=True) for a, b in zip(x, y, strict=True))
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def can_be_spelled(cls: type[Optimizer]) -> bool:
    rule = cls.rule
    is_planned = rule.kind in ("pointwise", "per_tensor") and rule.sparse != "lazy"
    return is_planned and rule.shared is None and not cls.takes_estimates


TAKEN = {name: cls for name, cls in CLASSES.items() if can_be_spelled(cls)}
ROWS = [
    (cls, {name: value for name, value in options.items() if name not in REFUSED})
    for cls in TAKEN.values()
    for options in ({}, everything_on(cls))
]
every_row = pytest.mark.parametrize(("cls", "options"), cases(ROWS))

OF_TRANSFORMS = [
    (TAKEN["adamw"], {name: value})
    for name, field in transforms.options().items()
    for value in alternatives(field)
    if name not in REFUSED and is_valid(TAKEN["adamw"], {name: value})
] + [(TAKEN["adamw"], {"corrected_weight_decay": True, "lr_max": 0.1}), (TAKEN["nadam"], {"ema_decay": "karras"})]


# torch keeps scalar state (NAdam's mu_product) in the default dtype
@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize(("cls", "options"), [*cases(ROWS), *cases(OF_TRANSFORMS)])
def test_a_transformation_is_the_reference_executor(cls: type[Optimizer], options: Options) -> None:
    """Bound: each of seven steps rounds the sum of parameter and update, which the reference executor does not make."""
    start, grads = problem(7)
    ours, _ = run(transformation(cls.__name__, **options), start, grads)
    theirs = run_reference(cls, options, start, grads)
    assert distance(ours, theirs) <= 64 * EPS
    assert distance(ours[-1:], [start]) > 1e-12


def test_every_other_class_is_refused() -> None:
    for name in CLASSES.keys() - TAKEN.keys():
        with pytest.raises(ValueError, match=r"is not for JAX: it .* or train in PyTorch with steepest.create"):
            transformation(name)
    assert len(TAKEN) > 40
    with pytest.raises(ValueError, match=r"use optax.contrib.momo_adam, or train in PyTorch"):
        transformation("momoadam")


EQUAL = [c for c in OPTAX if c.apart is None and c.name.lower() in TAKEN]


@pytest.mark.parametrize("comparison", EQUAL, ids=lambda c: c.theirs)
def test_a_transformation_is_optaxs_own(comparison: Any) -> None:
    """Under a schedule that rises and falls, with the arguments that docs/variants.md names."""
    options = {**comparison.numbers, **comparison.selecting}
    base = options.get("lr", CLASSES[comparison.name.lower()].fields["lr"].default)
    multipliers = jnp.asarray(SCHEDULES["changing" if comparison.is_scheduled else "constant"])
    rates = {"lr": lambda count: base * multipliers[count], "multiplier": lambda count: multipliers[count]}
    theirs = eval(comparison.theirs, {"optax": optax, **rates})
    ours = transformation(comparison.name, **{**options, "lr": rates["lr"]})
    start, grads = problem(8, 1e-4)  # so that it matters where ε is added
    theirs_path, ours_path = run(theirs, start, grads)[0], run(ours, start, grads)[0]
    assert distance(ours_path, theirs_path) <= 4 * 8 * EPS * max(np.abs(x).max() for x in ours_path[-1])
    assert distance(ours_path[-1:], [start]) > 1e-6


@every_row
def test_state_keeps_its_shapes_and_dtypes(cls: type[Optimizer], options: Options) -> None:
    """So that a step can be a loop's body; parameters in float32 keep state in float32, also where JAX has float64."""
    made = transformation(cls.__name__, **options)
    params = {"a": jnp.ones((3, 4), jnp.float32), "b": jnp.ones(5, jnp.bfloat16)}
    state = jax.eval_shape(made.init, params)
    updates, new = jax.eval_shape(made.update, params, state, params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), new) == jax.tree.map(
        lambda x: (x.shape, x.dtype, x.weak_type), state
    )
    assert jax.tree.map(lambda x: (x.shape, x.dtype), updates) == {
        "a": ((3, 4), jnp.float32),
        "b": ((5,), jnp.float32),
    }


@every_row
def test_arrays_in_float32_compute_in_float32(cls: type[Optimizer], options: Options) -> None:
    """Also where numbers, such as powers of the step count, are in float64."""
    made = transformation(cls.__name__, **options)
    params = [jnp.ones((3, 4), jnp.float32)]
    steps = jax.make_jaxpr(made.update)(params, jax.eval_shape(made.init, params), params).eqns
    results = [out.aval for step in steps for out in step.outvars]
    assert any(x.dtype == jnp.float32 and x.shape == (3, 4) for x in results)
    assert not [x for x in results if x.dtype == jnp.float64 and x.shape == (3, 4)]


COMPILED = [
    ("adam", {}),
    ("adafactor", {}),
    ("nadam", {"ema_decay": "warmup"}),
    ("sgd", {"momentum": 0.9, "dampening": 0.5, "max_norm": 0.1}),
]


@pytest.mark.parametrize(("name", "options"), COMPILED)
def test_a_compiled_loop_makes_the_same_steps(name: str, options: Options) -> None:
    made = transformation(name, **options)
    start, grads = problem(4)
    stacked = [jnp.stack(each) for each in zip(*grads, strict=True)]

    def body(carry: Any, of_step: Any) -> Any:
        params, state = carry
        updates, state = made.update(of_step, state, params)
        return (optax.apply_updates(params, updates), state), None

    params = list(map(jnp.asarray, start))
    (last, _), _ = jax.jit(lambda first, given: jax.lax.scan(body, first, given))((params, made.init(params)), stacked)
    assert distance([last], run(made, start, grads)[0][-1:]) <= 64 * EPS


def test_rates_may_be_mapped_over_and_differentiated_by() -> None:
    start, (grads,) = problem(1)

    def stepped(lr: Any) -> Any:
        return run(transformation("sgd", lr=lr, momentum=0.9), start, [grads])[0][-1]

    mapped = jax.jit(jax.vmap(stepped))(jnp.array([0.1, 0.5]))
    for place, lr in enumerate([0.1, 0.5]):
        assert distance([[x[place] for x in mapped]], [stepped(lr)]) <= EPS
    assert distance([jax.jit(jax.jacfwd(stepped))(0.1)], [[-g for g in grads]]) <= 4 * EPS


def test_models_may_be_mapped_over() -> None:
    made = transformation("adafactor")
    start, grads = problem(2)
    twice = [np.stack([x, 2 * x]) for x in start]
    params = list(map(jnp.asarray, twice))
    state = jax.jit(jax.vmap(made.init))(params)
    step = jax.jit(jax.vmap(made.update))
    for of_step in grads:
        updates, state = step([jnp.stack([g, -g]) for g in of_step], state, params)
        params = optax.apply_updates(params, updates)
    for place, (factor, sign) in enumerate([(1, 1), (2, -1)]):
        path, _ = run(made, [factor * x for x in start], [[sign * g for g in each] for each in grads])
        assert distance([[x[place] for x in params]], path[-1:]) <= 16 * EPS


def test_injected_numbers_are_schedules() -> None:
    start, grads = problem(5)
    rates = optax.linear_schedule(0.3, 0.0, 4)
    decays = optax.linear_schedule(0.0, 0.2, 4)
    injected = optax.inject_hyperparams(factory("adamw"))(lr=rates, weight_decay=decays, betas=(0.8, 0.9))
    path, state = run(injected, start, grads)
    assert (
        distance(path, run(transformation("adamw", lr=rates, weight_decay=decays, betas=(0.8, 0.9)), start, grads)[0])
        <= EPS
    )
    assert state.hyperparams.keys() == {"lr", "weight_decay"}
    assert float(state.hyperparams["lr"]) == 0.0


def test_the_largest_norm_of_gradients_is_optaxs() -> None:
    start, grads = problem(3)
    theirs = optax.chain(optax.clip_by_global_norm(0.5), transformation("sgd", lr=0.1))
    for largest in (0.5, jnp.asarray(0.5)):
        ours = transformation("sgd", lr=0.1, max_norm=largest)
        assert distance(run(ours, start, grads)[0], run(theirs, start, grads)[0]) <= 1e-6  # torch adds 1e-6 to the norm


@pytest.mark.usefixtures("float64_default")
def test_zclip_clips_after_its_warm_up() -> None:
    start, grads = problem(30)
    grads[28] = [50 * g for g in grads[28]]
    ours, _ = run(transformation("sgd", lr=0.1, zclip=2.5), start, grads)
    assert distance(ours, run_reference(CLASSES["sgd"], {"lr": 0.1, "zclip": 2.5}, start, grads)) <= 512 * EPS
    assert distance(ours, run(transformation("sgd", lr=0.1), start, grads)[0]) > 1.0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=str)
def test_half_types_compute_in_float32_and_round_once(dtype: Any) -> None:
    start, grads = problem(3)
    ours, state = run(
        transformation("adam", lr=0.1),
        [jnp.asarray(x, dtype) for x in start],
        [[jnp.asarray(g, dtype) for g in each] for each in grads],
    )
    halves = getattr(torch, jnp.dtype(dtype).name)
    params = [torch.nn.Parameter(torch.tensor(x).to(halves)) for x in start]
    optimizer = CLASSES["adam"](params, lr=0.1, foreach=False)
    for of_step in grads:
        for p, g in zip(params, of_step, strict=True):
            p.grad = torch.tensor(g).to(halves)
        optimizer.step()
    assert {x.dtype.name for x in jax.tree.leaves((ours[-1], state.arrays))} == {jnp.dtype(dtype).name}
    ulp = float(jnp.finfo(dtype).eps) * 4
    theirs = [[p.detach().double().numpy() for p in params]]
    assert distance([[x.astype(float) for x in ours[-1]]], theirs) <= ulp


def test_without_float64_numbers_stay_float32() -> None:
    start, grads = problem(3)
    expected = run(transformation("nadam"), start, grads)[0]
    with jax.enable_x64(False):
        path, state = run(
            transformation("nadam"), [x.astype("f4") for x in start], [[g.astype("f4") for g in each] for each in grads]
        )
        assert {str(x.dtype) for x in jax.tree.leaves(state)} == {"int32", "float32"}
        assert distance(path, expected) <= 1e-5


ARGUMENTS: dict[str, Callable[[Any, Any], tuple[Any, ...]]] = {
    **dict.fromkeys(("maximum", "minimum", "atan2"), lambda x, y: (x, y)),
    **dict.fromkeys(("axis_max", "axis_total", "axis_mean"), lambda x, y: (x, 1)),
    "lerp": lambda x, y: (x, y, 0.3),
    "where": lambda x, y: (x > y, x, y),
    "rescaled": lambda x, y: (x, 0.5),
    "head_mean": lambda x, y: (x, 3),
}


EXTREMES = [(name, "float32", size) for name in ("norm", "rms", "unit_norm") for size in (1e30, 1e-30)]


@pytest.mark.parametrize(("name", "dtype", "size"), [*((name, "float64", 1.0) for name in WORDS), *EXTREMES])
def test_a_word_means_what_it_means_in_torch(name: str, dtype: str, size: float) -> None:
    """NaN is NaN, and its sign 0; a norm neither overflows nor vanishes, and a root mean square does."""
    rng = np.random.default_rng(1)
    x, y = (np.asarray(size * rng.normal(size=(2, 3, 2)), dtype) for _ in range(2))
    x[1, 2, 0] = np.nan if size == 1.0 else 0.0
    arguments = ARGUMENTS.get(name, lambda x, y: (x,))
    theirs = WORDS[name](*arguments(torch.tensor(x), torch.tensor(y)))
    ours = SPELLED[name](*arguments(jnp.asarray(x), jnp.asarray(y)))
    np.testing.assert_allclose(np.asarray(ours), theirs.numpy(), rtol=8 * np.finfo(dtype).eps, atol=0)


def test_it_goes_into_optaxs_own_combinators() -> None:
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    grads = jax.tree.map(lambda x: 2 * x, params)

    def stepped(made: Any, grads: Any = grads) -> dict[str, float]:
        updates, _ = made.update(grads, made.init(params), params)
        return {name: float(x.ravel()[0]) for name, x in updates.items()}

    sgd = transformation("sgd", lr=0.25)
    assert stepped(optax.masked(sgd, {"w": True, "b": False})) == {"w": -0.5, "b": 2.0}
    parts = optax.partition({"ours": sgd, "none": optax.set_to_zero()}, {"w": "ours", "b": "none"})
    assert stepped(parts) == {"w": -0.5, "b": 0.0}
    assert stepped(optax.chain(sgd, optax.scale(0.5))) == {"w": -0.25, "b": -0.25}
    not_finite = {"w": grads["w"] * jnp.nan, "b": grads["b"]}
    assert stepped(optax.apply_if_finite(sgd, 3), not_finite) == {"w": 0.0, "b": 0.0}
    state = transformation("adafactor").init(params)
    zeroed = optax.tree_utils.tree_map_params(transformation("adafactor"), lambda x: x + 7, state)
    assert float(zeroed.arrays["variance"]["b"][0]) == 7.0
    assert int(zeroed.count) == 0


def test_averages_are_in_the_state() -> None:
    start, grads = problem(3)
    path, state = run(transformation("sgd", lr=0.1, ema_decay=0.5), start, grads)
    average = start
    for params in path:
        average = [0.5 * a + 0.5 * np.asarray(p) for a, p in zip(average, params, strict=True)]
    assert distance([state.arrays["ema"]], [average]) <= 4 * EPS


WRONG: list[tuple[Options, type[Exception], str]] = [
    ({"name": "adm"}, ValueError, "did you mean 'adam'"),
    ({"name": 3}, TypeError, "name must be that of an optimizer"),
    ({"name": "sgd", "momentun": 0.9}, TypeError, "did you mean 'momentum'"),
    ({"name": "adam", "learning_rate": 0.1}, TypeError, r"it takes lr, betas"),
    ({"name": "adam", "lr": -1.0}, ValueError, "lr must be a number >= 0"),
    ({"name": "adam", "lr": jnp.asarray(-1.0)}, ValueError, "lr must be a number >= 0"),
    ({"name": "adam", "lr": jnp.ones(2)}, ValueError, "scalar arrays"),
    ({"name": "adam", "betas": jnp.ones(2)}, ValueError, "betas must be 2 numbers"),
    ({"name": "adam", "betas": (0.9,)}, ValueError, "betas must be 2 numbers"),
    ({"name": "adam", "ema_every": jnp.asarray(2)}, ValueError, "ema_every settles what is computed.*static_args"),
    ({"name": "adabound", "lr": jnp.asarray(0.1)}, ValueError, "give base_lr"),
    ({"name": "sgd", "nesterov": True}, ValueError, "requires a momentum"),
    ({"name": "adam", "lr_in_decay": False}, ValueError, "give decoupled_weight_decay=True too"),
    ({"name": "adam", "foreach": True}, ValueError, "foreach=True is not for JAX"),
    ({"name": "adam", "fused": True}, ValueError, "fused=True is not for JAX"),
    ({"name": "adam", "capturable": True}, ValueError, "use jax.jit"),
    ({"name": "adam", "differentiable": True}, ValueError, "use jax.jit"),
    ({"name": "adam", "state_dtype": "int8"}, ValueError, "keep state"),
    ({"name": "adam", "skip_nonfinite": True}, ValueError, "optax.apply_if_finite"),
    ({"name": "adam", "gpa": (0.9, 0.9)}, ValueError, "optax.contrib.schedule_free"),
    ({"name": "adam", "hyperball": True}, ValueError, "leave it out"),
]


@pytest.mark.parametrize(("given", "error", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_is_refused(given: Options, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        transformation(**given)


def test_trees_that_cannot_be_are_refused() -> None:
    made = transformation("adam")
    params = {"w": jnp.ones((2, 3))}
    state = made.init(params)
    for leaf in (jnp.arange(3), jnp.ones(3, complex)):
        with pytest.raises(ValueError, match=r"parameters must be real arrays of floats, and one has dtype"):
            made.init({"w": leaf})
    with pytest.raises(ValueError, match=r"call update\(grads, state, params\)"):
        made.update(params, state)
    with pytest.raises(ValueError, match=r"a parameter has shape \(2, 3\), and its gradient \(3, 2\)"):
        made.update({"w": jnp.ones((3, 2))}, state, params)
    with pytest.raises(ValueError, match="a gradient is None"):
        made.update({"w": None}, state, params)


def test_a_schedule_gives_the_first_value_of_what_follows_the_rate() -> None:
    """AdaBound's ``base_lr`` is the rate at the start, as for an optimizer whose rate a scheduler changes."""
    start, grads = problem(3)
    rates = optax.linear_schedule(0.1, 0.0, 4)

    def trained(**options: Any) -> list[Any]:
        return run(transformation("adabound", lr=rates, gamma=1.0, **options), start, grads)[0]

    assert distance(trained(), trained(base_lr=0.1)) == 0
    assert distance(trained(), trained(base_lr=0.2)) > 1e-3


def test_the_examples_run() -> None:
    assert doctest.testmod(steepest.optax).failed == 0
