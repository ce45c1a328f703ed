"""Nothing of torch's is missing: its classes, their switches, and what its data base says that they support."""

from __future__ import annotations

import pytest
import torch

from .support import IMPLEMENTATIONS, OURS, TORCHS, Info, every_info


@pytest.mark.parametrize("name", TORCHS)
def test_the_class_exists(name: str) -> None:
    assert name in OURS, f"torch.optim.{name} has no class of that name here"
    assert issubclass(OURS[name].optim_cls, torch.optim.Optimizer)


def test_the_data_base_is_whole() -> None:
    """A class that torch adds without a description would be tried by nobody."""
    public = {n for n, c in vars(torch.optim).items() if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)}
    assert public - {"Optimizer"} == set(TORCHS)


@every_info()
def test_it_has_torchs_switches(info: Info) -> None:
    theirs = TORCHS[info.name]
    assert {s for s in theirs.supported_impls if s != "fused" or "cpu" in theirs.supports_fused_on} <= set(
        info.supported_impls
    )
    assert ("capturable" in info.optim_cls.fields) >= theirs.has_capturable_arg
    options = {f.name: f.default for f in info.optim_cls.fields.values()}
    assert info.optim_cls.needs_closure(options) == info.step_requires_closure


@every_info()
def test_the_data_base_leaves_the_switches_to_the_tests(info: Info) -> None:
    """Otherwise `configurations` would not be what it says."""
    assert not any(each.kwargs.keys() & set(IMPLEMENTATIONS) for each in info.optim_inputs_func("cpu"))
