"""What a fresh installation must do with torch and nothing else; `make dist` runs it in an environment of its own."""

import importlib.util
import sys

import torch

import steepest

beyond = [name for name in ("numpy", "typer", "scipy", "plotly") if importlib.util.find_spec(name)]
assert not beyond, f"the environment has {beyond}, so it shows nothing about torch with nothing else"
assert "site-packages" in steepest.__file__, f"not the installed package: {steepest.__file__}"

for name in ("AdamW", "Muon", "SOAP", "Prodigy", "AdamWScheduleFree"):
    weight = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = steepest.create(name, [weight])
    for _ in range(3):
        weight.grad = weight.detach().clone()
        optimizer.step()
    assert not torch.equal(weight.detach(), torch.ones(4, 3)), f"{name} moved nothing"
    print(f"{name}: {optimizer.executor}")
print(f"steepest {steepest.__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}")
