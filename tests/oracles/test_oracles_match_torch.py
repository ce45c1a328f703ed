"""The oracles judged themselves: against torch.optim in float64, by hand-worked numbers, and by identities.

Tolerance 1e-12 of the element or, where terms cancel, of the tensor's largest: oracle and torch do the same arithmetic
in another order (lerp, addcdiv, folded factors). Ten steps of some ten roundings of 1e-16 differ by up to 1e-14;
centered RMSprop subtracts two nearly equal numbers under its root and reaches 4e-13.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from shapes import comparable
from steepest import registry

from . import ORACLES, Array, Result, nag_lookahead, problem, steepest_descent, weight_average, without
from .common import FLOAT_STATE, Gradients

TOLERANCE = 1e-12
SHAPES = [(3, 4), (5,), (), (2, 1, 3), (0,)]
STEPS = 10

# One telling value for every option of each class that torch has. Every subset of them is compared.
SWITCHES: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "nesterov": True, "maximize": True},
    "adagrad": {
        "lr_decay": 0.2,
        "weight_decay": 0.1,
        "initial_accumulator_value": 0.5,
        "eps": 1e-2,
        "maximize": True,
    },
    "rmsprop": {
        "alpha": 0.8,
        "eps": 1e-2,
        "weight_decay": 0.1,
        "momentum": 0.9,
        "centered": True,
        "maximize": True,
    },
    "adadelta": {"rho": 0.7, "eps": 1e-2, "weight_decay": 0.1, "maximize": True},
    "adam": {
        "betas": (0.8, 0.9),
        "eps": 1e-2,
        "weight_decay": 0.1,
        "amsgrad": True,
        "maximize": True,
        "decoupled_weight_decay": True,
    },
    "adamw": {"betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.2, "amsgrad": True, "maximize": True},
    "adamax": {"betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.1, "maximize": True},
    "nadam": {
        "betas": (0.8, 0.9),
        "eps": 1e-2,
        "weight_decay": 0.1,
        "momentum_decay": 0.3,
        "decoupled_weight_decay": True,
        "maximize": True,
    },
    "radam": {
        "betas": (0.8, 0.9),
        "eps": 1e-2,
        "weight_decay": 0.1,
        "decoupled_weight_decay": True,
        "maximize": True,
    },
    "rprop": {"etas": (0.3, 1.9), "step_sizes": (0.02, 0.1), "maximize": True},
    "adafactor": {"beta2_decay": -0.5, "eps": (0.1, 1.5), "d": 1.4, "weight_decay": 0.1, "maximize": True},
    "asgd": {"lambd": 0.1, "alpha": 0.5, "t0": 2.0, "weight_decay": 0.1, "maximize": True},
}
TORCH: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adadelta": torch.optim.Adadelta,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rprop": torch.optim.Rprop,
    "asgd": torch.optim.ASGD,
    "adafactor": torch.optim.Adafactor,
}

MATRIX = {name: cls for name, cls in registry.optimizers().items() if cls.rule.kind == "matrix"}

SHAPED: dict[str, Callable[..., torch.optim.Optimizer]] = {**TORCH, **MATRIX}
"""Those whose shapes are fitted. Rules of matrices compute in bfloat16: tests/test_muon.py compares torch's."""


@pytest.fixture(autouse=True)
def _shapes_fit_torchs_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    given = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if given.get("name") in SHAPED:
        monkeypatch.setattr(request.module, "SHAPES", comparable(SHAPED[given["name"]], SHAPES))


@pytest.fixture
def float64_scalars() -> Iterator[None]:
    """torch keeps NAdam's mu_product in the default dtype, in float32 good for 1e-7 only."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def torch_run(
    name: str, theta0: Sequence[Array], grads: Gradients, lr: Sequence[float], **options: Any
) -> list[Result]:
    """What torch's own class makes of the same gradients, in the form of the oracles."""
    parameters = [torch.nn.Parameter(torch.tensor(p)) for p in theta0]
    optimizer = TORCH[name](parameters, lr=lr[0], **options)
    for rate, of_step in zip(lr, grads, strict=True):
        for p, g in zip(parameters, of_step, strict=True):
            p.grad = None if g is None else torch.tensor(g)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return [{"param": p.detach().numpy(), **_plain(optimizer.state[p])} for p in parameters]


def _plain(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {name: value.item() if name in FLOAT_STATE else value.numpy() for name, value in state.items()}


def assert_equal(ours: Sequence[Result], theirs: Sequence[Result], tolerance: float = TOLERANCE) -> None:
    """Same tensors, same state names in the same order, same numbers, shapes and kinds."""
    assert len(ours) == len(theirs)
    for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert list(mine) == list(other)
        for key, value in mine.items():
            assert type(value) is type(other[key]), (i, key)
            assert np.shape(value) == np.shape(other[key]), (i, key)
            atol = tolerance * np.max(np.abs(other[key]), initial=0.0)
            np.testing.assert_allclose(value, other[key], rtol=tolerance, atol=atol, err_msg=f"{i} {key}")


def allowed(name: str, options: Mapping[str, Any]) -> bool:
    """torch refuses Nesterov without momentum or with dampening; dampening without momentum does nothing."""
    momentum, dampening = "momentum" in options, "dampening" in options
    return name != "sgd" or (
        (momentum or not dampening) and not ("nesterov" in options and (dampening or not momentum))
    )


def subsets(name: str) -> Iterator[dict[str, Any]]:
    options = SWITCHES[name].items()
    for size in range(len(options) + 1):
        for chosen in itertools.combinations(options, size):
            if allowed(name, dict(chosen)):
                yield dict(chosen)


CASES = [pytest.param(name, options, id="-".join([name, *options])) for name in SWITCHES for options in subsets(name)]


def gapped(steps: int = STEPS) -> tuple[list[Array], list[list[Array | None]]]:
    """A problem where tensor 0 misses steps 4 and 5, tensor 1 joins at step 3 and tensor 3 never has a gradient."""
    theta0, grads = problem(7, SHAPES, steps)
    return theta0, without(without(without(grads, 0, {4, 5}), 1, {0, 1, 2}), 3, range(steps))


@pytest.mark.usefixtures("float64_scalars")
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_subset_of_options_is_torchs(name: str, options: dict[str, Any]) -> None:
    theta0, grads = problem(1, SHAPES, STEPS)
    ours = ORACLES[name](theta0, grads, lr=0.03, **options)
    assert_equal(ours, torch_run(name, theta0, grads, [0.03] * STEPS, **options))


@pytest.mark.usefixtures("float64_scalars")
@pytest.mark.parametrize("name", TORCH)
def test_defaults_are_torchs(name: str) -> None:
    theta0, grads = problem(2, SHAPES, STEPS)
    lr = TORCH[name]([torch.nn.Parameter(torch.zeros(1))]).defaults["lr"]
    assert_equal(ORACLES[name](theta0, grads), torch_run(name, theta0, grads, [lr] * STEPS))


@pytest.mark.usefixtures("float64_scalars")
@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("with_options", [False, True])
def test_missing_gradients_skip_and_late_parameters_count_from_one(name: str, with_options: bool) -> None:
    theta0, grads = gapped()
    options = max(subsets(name), key=len) if with_options else {}
    assert_equal(
        ORACLES[name](theta0, grads, lr=0.03, **options), torch_run(name, theta0, grads, [0.03] * STEPS, **options)
    )


@pytest.mark.usefixtures("float64_scalars")
@pytest.mark.parametrize("name", TORCH)
def test_a_rate_for_each_step_is_torchs_lr_edited_in_the_group(name: str) -> None:
    theta0, grads = gapped()
    lr = [0.1 / (k + 1) for k in range(STEPS)]
    options = max(subsets(name), key=len)
    assert_equal(ORACLES[name](theta0, grads, lr=lr, **options), torch_run(name, theta0, grads, lr, **options))


@pytest.mark.parametrize("name", TORCH)
def test_every_option_moves_the_result(name: str) -> None:
    """Otherwise agreement with torch would prove nothing about it."""
    theta0, grads = problem(3, [(6,)], STEPS)
    for switch, value in SWITCHES[name].items():
        base = {"momentum": 0.9} if name == "sgd" else {"weight_decay": 0.1} if "weight_decay" in SWITCHES[name] else {}
        base.pop(switch, None)
        (plain,), (moved,) = (ORACLES[name](theta0, grads, lr=0.03, **o) for o in (base, {**base, switch: value}))
        told = [key for key in ("param", "ax") if key in plain]  # ax is the answer of ASGD
        assert max(np.abs(plain[key] - moved[key]).max() for key in told) > 1e3 * TOLERANCE, switch


def test_torchs_float32_mu_product_costs_nadam_seven_digits() -> None:
    theta0, grads = problem(4, SHAPES, STEPS)
    ours, theirs = ORACLES["nadam"](theta0, grads), torch_run("nadam", theta0, grads, [2e-3] * STEPS)
    assert_equal(ours, theirs, tolerance=1e-6)
    assert np.abs(ours[0]["param"] - theirs[0]["param"]).max() > TOLERANCE


def test_nadam_without_warm_up_is_dozats_form() -> None:
    """0.96^(t psi) vanishes for a huge psi, so mu_t = b1 in torch's class, which then is Dozat's own formula."""
    theta0, grads = problem(5, SHAPES, STEPS)
    theirs = torch_run("nadam", theta0, grads, [0.03] * STEPS, momentum_decay=1e6)
    for state in theirs:
        state.pop("mu_product")
    ours = ORACLES["nadam"](theta0, grads, lr=0.03, momentum_schedule="dozat")
    assert_equal(ours, theirs, tolerance=1e-6)  # torch's mu_product is float32


@pytest.mark.parametrize(("name", "nesterov"), [("momentum", False), ("nag", True)])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"maximize": True, "weight_decay": 0.1}])
def test_classical_momentum_is_torchs_while_lr_is_constant(name: str, nesterov: bool, options: dict[str, Any]) -> None:
    theta0, grads = gapped()
    theirs = torch_run("sgd", theta0, grads, [0.03] * STEPS, momentum=0.9, nesterov=nesterov, **options)
    for state in theirs:
        if "momentum_buffer" in state:
            state["momentum_buffer"] = np.asarray(0.03 * state["momentum_buffer"])
    assert_equal(ORACLES[name](theta0, grads, lr=0.03, momentum=0.9, **options), theirs)


@pytest.mark.parametrize("name", ["momentum", "nag"])
def test_momentum_zero_is_plain_descent(name: str) -> None:
    theta0, grads = problem(6, SHAPES, STEPS)
    plain = ORACLES["sgd"](theta0, grads, lr=0.03)
    for ours, theirs in zip(ORACLES[name](theta0, grads, lr=0.03, momentum=0.0), plain, strict=True):
        np.testing.assert_array_equal(ours["param"], theirs["param"])


@pytest.mark.parametrize("name", ORACLES)
def test_inputs_are_left_alone(name: str) -> None:
    theta0, grads = problem(8, SHAPES, 3)
    kept = [p.copy() for p in theta0], [[g.copy() for g in of_step] for of_step in grads]
    results = ORACLES[name](theta0, without(grads, 1, range(3)), **REQUIRED.get(name, {}))
    for result in results:
        result["param"] += 1.0
    for mine, copy in zip([*theta0, *itertools.chain(*grads)], [*kept[0], *itertools.chain(*kept[1])], strict=True):
        np.testing.assert_array_equal(mine, copy)


# Ours without a class of torch's have no defaults here: the library declares them.
REQUIRED: dict[str, dict[str, Any]] = {
    "momentum": {"lr": 0.1, "momentum": 0.9},
    "nag": {"lr": 0.1, "momentum": 0.9},
    "novograd": {"lr": 0.1, "betas": (0.95, 0.98)},
}


def run_scalar(name: str, theta: float, grads: Sequence[float], **options: Any) -> Result:
    """The oracle on one 0-d parameter."""
    return ORACLES[name]([np.array(theta)], [[np.array(g)] for g in grads], **options)[0]


def assert_close(actual: object, expected: object) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-14, atol=1e-15)


def test_momentum_by_hand() -> None:
    # v1 = .1 * 2 = .2, theta = 1 - .2 = .8; v2 = .9 * .2 + .1 * 3 = .48, theta = .8 - .48 = .32
    result = run_scalar("momentum", 1.0, [2.0, 3.0], lr=0.1, momentum=0.9)
    assert_close([result["param"], result["momentum_buffer"]], [0.32, 0.48])


def test_momentum_keeps_the_rate_inside_the_buffer() -> None:
    # lr .1, then .01: v2 = .9 * .2 + .01 * 3 = .21, theta = .8 - .21 = .59
    # torch's SGD: b2 = .9 * 2 + 3 = 4.8, theta = .8 - .01 * 4.8 = .752
    assert_close(run_scalar("momentum", 1.0, [2.0, 3.0], lr=[0.1, 0.01], momentum=0.9)["param"], 0.59)
    assert_close(run_scalar("sgd", 1.0, [2.0, 3.0], lr=[0.1, 0.01], momentum=0.9)["param"], 0.752)


def test_nag_by_hand() -> None:
    # v1 = .2, theta = 1 - (.2 + .9 * .2) = .62; v2 = .48, theta = .62 - (.3 + .9 * .48) = .62 - .732 = -.112
    # (the mistaken theta -= (1 + mu) v gives .62, then .62 - 1.9 * .48 = -.292)
    result = run_scalar("nag", 1.0, [2.0, 3.0], lr=0.1, momentum=0.9)
    assert_close([result["param"], result["momentum_buffer"]], [-0.112, 0.48])


def test_nag_lookahead_by_hand() -> None:
    # grad = theta. v1 = .1 * 1 = .1, theta = .9; at .9 - .5 * .1 = .85: v2 = .05 + .085 = .135, theta = .765
    (result,) = nag_lookahead([np.array(1.0)], lambda points: points, steps=2, lr=0.1, momentum=0.5)
    assert_close([result["param"], result["momentum_buffer"]], [0.765, 0.135])


def test_nag_rewritten_is_lookahead_at_the_shifted_point() -> None:
    """With phi = theta - mu v the look-ahead rule is the rewritten one, while mu is constant and v starts at 0."""
    mu, lr = 0.9, [0.02, 0.05, 0.01, 0.03, 0.02, 0.04]
    rng = np.random.default_rng(9)
    root = rng.standard_normal((4, 4))
    A, start = root @ root.T, rng.standard_normal(4)
    phi, grads = start, []
    for k in range(len(lr)):
        grads.append([A @ phi])
        (rewritten,) = ORACLES["nag"]([start], grads, lr=lr[: k + 1], momentum=mu)
        phi = rewritten["param"]
        (ahead,) = nag_lookahead([start], lambda at: [A @ at[0]], steps=k + 1, lr=lr[: k + 1], momentum=mu)
        np.testing.assert_allclose(phi, ahead["param"] - mu * ahead["momentum_buffer"], rtol=1e-12)
        np.testing.assert_allclose(rewritten["momentum_buffer"], ahead["momentum_buffer"], rtol=1e-12)


def test_novograd_by_hand() -> None:
    # betas .5, eps 0, lambda .1, lr .1. g1 = (3, 4): v = 25, m = (.6, .8) + .1 (1, 2) = (.7, 1), theta = (.93, 1.9)
    # g2 = (0, 3): v = (25 + 9) / 2 = 17, m = (.35, .5) + (0, 3 / sqrt(17)) + (.093, .19) = (.443, .69 + 3 / sqrt(17))
    grads = [[np.array([3.0, 4.0])], [np.array([0.0, 3.0])]]
    options: dict[str, Any] = {"lr": 0.1, "betas": (0.5, 0.5), "eps": 0.0, "weight_decay": 0.1}
    (result,) = ORACLES["novograd"]([np.array([1.0, 2.0])], grads, **options)
    assert list(result) == ["param", "step", "exp_avg", "exp_avg_sq"]
    assert result["step"] == 2.0
    assert result["exp_avg_sq"].shape == ()
    assert_close(result["exp_avg_sq"], 17.0)
    assert_close(result["exp_avg"], [0.443, 0.69 + 0.7276068751089989])
    assert_close(result["param"], [0.8857, 1.9 - 0.14176068751089989])


def test_novograd_scalar_by_hand() -> None:
    # betas (.5, .75), eps 5, lr .1: v = 25, m = 5 / (5 + 5) = .5, theta = .95; g = -13: v = .75 * 25 + .25 * 169 = 61
    # m = .25 - 13 / (sqrt(61) + 5) = .25 - 13 / 12.810249675906654 = -.764812496...
    result = run_scalar("novograd", 1.0, [5.0, -13.0], lr=0.1, betas=(0.5, 0.75), eps=5.0)
    assert_close(result["exp_avg_sq"], 61.0)
    assert_close(result["exp_avg"], 0.25 - 13.0 / 12.810249675906654)
    assert_close(result["param"], 0.95 - 0.1 * (0.25 - 13.0 / 12.810249675906654))
    up = run_scalar("novograd", 1.0, [-5.0, 13.0], lr=0.1, betas=(0.5, 0.75), eps=5.0, maximize=True)
    assert_close(up["param"], result["param"])


def test_novograd_takes_the_norm_of_each_tensor_alone() -> None:
    theta0, grads = problem(10, [(3,), (4, 2)], STEPS)
    both = ORACLES["novograd"](theta0, grads, **REQUIRED["novograd"])
    for i in range(2):
        (alone,) = ORACLES["novograd"]([theta0[i]], [[g[i]] for g in grads], **REQUIRED["novograd"])
        np.testing.assert_array_equal(alone["param"], both[i]["param"])


def test_eps_inside_the_root_by_hand() -> None:
    # Adagrad: 3 / sqrt(9 + 16) = .6. RMSprop: E = .5 * 4 = 2, 2 / sqrt(2 + 2) = 1.
    # Centered: E - mean^2 = 8 - 4 = 4, 4 / sqrt(4 + 5) = 4 / 3. Adam: mhat = 3, vhat = 9, 3 / sqrt(9 + 16) = .6
    inside: dict[str, Any] = {"lr": 0.1, "eps_in_sqrt": True}
    assert_close(run_scalar("adagrad", 1.0, [3.0], eps=16.0, **inside)["param"], 0.94)
    assert_close(run_scalar("rmsprop", 1.0, [2.0], alpha=0.5, eps=2.0, **inside)["param"], 0.9)
    assert_close(
        run_scalar("rmsprop", 1.0, [4.0], alpha=0.5, eps=5.0, centered=True, **inside)["param"], 1.0 - 0.4 / 3.0
    )
    assert_close(run_scalar("adam", 1.0, [3.0], eps=16.0, **inside)["param"], 0.94)
    assert_close(run_scalar("adamw", 1.0, [3.0], eps=16.0, weight_decay=1.0, **inside)["param"], 0.9 - 0.06)


def test_amsgrad_with_eps_inside_the_root_by_hand() -> None:
    # betas .5, eps 16/3, lr .1. g1 = 4: m = 2, v = 8, mhat = 4, vhat = 16: 4 / sqrt(64/3)
    # g2 = 0: m = 1, v = 4 but the maximum is 8, corrected by 1 - .25: vhat = 32/3, mhat = 4/3: (4/3) / sqrt(48/3) = 1/3
    options: dict[str, Any] = {"lr": 0.1, "betas": (0.5, 0.5), "eps": 16.0 / 3.0, "amsgrad": True, "eps_in_sqrt": True}
    result = run_scalar("adam", 1.0, [4.0, 0.0], **options)
    assert_close(result["param"], 1.0 - 0.1 * 0.8660254037844386 - 0.1 / 3.0)
    assert_close([result["exp_avg_sq"], result["max_exp_avg_sq"]], [4.0, 8.0])


@pytest.mark.parametrize(("schedule", "moved"), [("constant", 1.5 + 7.0 / 6.0), ("dozat", 4.0 / 3.0 + 23.0 / 21.0)])
def test_nadam_with_constant_beta_by_hand(schedule: str, moved: float) -> None:
    # betas .5, eps 0, g = 2 twice. m = 1, then 1.5; vhat = 4 both times, so divide by 2.
    # constant: .5 * 1 / .5 + .5 * 2 / .5 = 3 -> 3/2; .5 * 1.5 / .75 + .5 * 2 / .75 = 7/3 -> 7/6
    # dozat:    .5 * 1 / .75 + .5 * 2 / .5 = 8/3 -> 4/3; .5 * 1.5 / .875 + .5 * 2 / .75 = 46/21 -> 23/21
    options: dict[str, Any] = {"lr": 0.1, "betas": (0.5, 0.5), "eps": 0.0, "momentum_schedule": schedule}
    result = run_scalar("nadam", 1.0, [2.0, 2.0], **options)
    assert list(result) == ["param", "step", "exp_avg", "exp_avg_sq"]
    assert_close(result["param"], 1.0 - 0.1 * moved)


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "adam", "adamw"])
def test_where_eps_stands_matters_only_if_there_is_one(name: str) -> None:
    theta0, grads = problem(11, [(6,)], STEPS)
    (outside,), (inside,) = (ORACLES[name](theta0, grads, eps=1e-2, eps_in_sqrt=flag) for flag in (False, True))
    assert np.abs(outside["param"] - inside["param"]).max() > 1e3 * TOLERANCE
    grads = [[np.where(g == 0.0, 0.5, g) for g in of_step] for of_step in grads]  # 0 / sqrt(0) is no number
    (outside,), (inside,) = (ORACLES[name](theta0, grads, eps=0.0, eps_in_sqrt=flag) for flag in (False, True))
    np.testing.assert_array_equal(outside["param"], inside["param"])


def test_steepest_descent_by_hand() -> None:
    # J = x^2/2 + 2 y^2 from (4, 1): g = (4, 4), eta = 32 / (16 + 64) = .4 -> (2.4, -.6)
    # g = (2.4, -2.4), eta = 11.52 / (5.76 + 23.04) = .4 -> (1.44, .36)
    points, sizes = steepest_descent(np.diag([1.0, 4.0]), np.zeros(2), np.array([4.0, 1.0]), steps=2)
    assert_close(sizes, [0.4, 0.4])
    assert_close(points, [[2.4, -0.6], [1.44, 0.36]])


def test_steepest_descent_takes_orthogonal_steps_and_stays_at_the_solution() -> None:
    rng = np.random.default_rng(12)
    root, b = rng.standard_normal((5, 5)), rng.standard_normal(5)
    A = root @ root.T + np.eye(5)
    points, _ = steepest_descent(A, b, np.zeros(5), steps=6)
    gradients = [A @ p - b for p in points]
    for g, following in itertools.pairwise(gradients):
        assert abs(g @ following) < 1e-12 * (g @ g)
    still, sizes = steepest_descent(np.eye(2), np.ones(2), np.ones(2), steps=2)
    assert_close(still, np.ones((2, 2)))
    assert sizes == [0.0, 0.0]


def test_weight_average_by_hand() -> None:
    # .5 * 2 + .5 * 4 = 3, .5 * 3 + .5 * 8 = 5.5; with d = 0, then .75: 4, .75 * 4 + .25 * 8 = 5
    path = [np.array([2.0]), np.array([4.0]), np.array([8.0])]
    assert_close(weight_average(path, decay=0.5), [5.5])
    assert_close(weight_average(path, decay=[0.0, 0.75]), [5.0])
    assert_close(weight_average(path[:1], decay=0.5), [2.0])


@pytest.mark.usefixtures("float64_scalars")
def test_not_a_number_stays_in_its_element() -> None:
    theta0, grads = [np.ones(3)], [[np.array([np.nan, np.inf, 1.0])]]
    for name in TORCH:
        moved = ORACLES[name](theta0, grads, lr=0.03)[0]["param"]
        assert np.isfinite(moved[2]), name
        theirs = torch_run(name, theta0, grads, [0.03])[0]["param"]
        np.testing.assert_allclose(moved, theirs, rtol=TOLERANCE, err_msg=name)


def test_problems_are_repeatable_and_varied() -> None:
    theta0, grads = problem(13, [(40,), ()], 6)
    again, _ = problem(13, [(40,), ()], 6)
    np.testing.assert_array_equal(theta0[0], again[0])
    sizes = np.abs(np.concatenate([np.ravel(g) for g in itertools.chain(*grads)]))
    assert sizes.max() > 1.0 > 1e-2 > sizes[sizes > 0].min()
    assert any(not np.any(g) for g in itertools.chain(*grads))
