"""Needs of the tests of adapters: packages, their settings, and a process that no other test forks."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

HOME = tempfile.TemporaryDirectory()
"""Folder for the settings that Keras writes."""

SETTINGS = {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "torch", "KERAS_HOME": HOME.name}
"""Environment variables that packages read when they are imported."""


def need(*packages: str) -> None:
    """Skip a module, before it imports packages, unless it runs in the environment of `make adapters`.

    There the packages are, and no test forks the process, which JAX's threads do not go with.
    """
    lacking = [name for name in packages if find_spec(name) is None]
    if lacking or Path(sys.prefix).name != "adapters":
        reason = f"it needs {', '.join(packages)} in an environment of their own; make adapters runs it"
        pytest.skip(reason, allow_module_level=True)
    os.environ.update(SETTINGS)
