"""The shapes are those of the models that they are named after."""

from __future__ import annotations

import pytest
import torch

from steepest.bench import cases
from steepest.registry import UnknownNameError
from steepest.study.workloads import fashion_mnist

PARAMETERS = {
    "small": 100_000,
    "matrices": 1_572_864,
    "cnn": 474_670,
    "resnet18": 11_689_512,
    "gpt2-small": 124_439_808,
    "100m": 100_000_000,
}


@pytest.mark.parametrize("case", cases.CASES.values(), ids=lambda case: case.name)
def test_the_number_of_parameters(case: cases.Case) -> None:
    assert case.elements == PARAMETERS[case.name]


def test_the_number_of_tensors() -> None:
    # ResNet-18: 20 convolutions, each with two vectors of batch normalisation, and a linear layer. GPT-2: two
    # embeddings, twelve tensors in each of twelve blocks, and the last normalisation.
    assert len(cases.CASES["resnet18"].shapes) == 3 * 20 + 2
    assert len(cases.CASES["gpt2-small"].shapes) == 2 + 12 * 12 + 2


def test_the_cnn_is_the_studys() -> None:
    assert cases.CASES["cnn"].shapes == tuple(tuple(p.shape) for p in fashion_mnist.model().parameters())


def test_parameters_and_gradients_are_repeatable_and_of_ordinary_size() -> None:
    case = cases.CASES["cnn"]
    state = torch.random.get_rng_state()
    first, again = case.parameters("cpu"), case.parameters("cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    for p, q in zip(first, again, strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p.grad, q.grad)
    gradients = torch.cat([p.grad.view(-1) for p in first])
    assert gradients.std().item() == pytest.approx(1, abs=0.01)
    assert gradients.abs().min() > 1e-12  # its square is no denormal number


def test_an_unknown_case_is_told_with_the_close_match() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown case 'resnet'; did you mean 'resnet18'\? \(there are: small"):
        cases.find("resnet")
