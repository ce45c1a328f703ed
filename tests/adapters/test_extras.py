"""An adapter without its packages names the extra to install. It runs everywhere."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("module", "package"), [("optax", "jax"), ("keras", "keras")])
def test_an_adapter_without_its_package_names_the_extra(module: str, package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; import steepest.{module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert f"pip install 'steepest[{module}]'" in done.stderr.splitlines()[-1]
