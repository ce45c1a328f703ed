"""An adapter without its packages names the extra to install. It runs everywhere."""

from __future__ import annotations

import json
import subprocess
import sys

PACKAGES = {"optax": "jax", "keras": "keras", "hf": "transformers", "lightning": "lightning"}
PROGRAM = """
import importlib, json, sys

def refusal(module, package):
    sys.modules[package] = None
    try:
        importlib.import_module(f"steepest.{module}")
    except ImportError as error:
        return str(error)

print(json.dumps({module: refusal(module, package) for module, package in json.loads(sys.argv[1]).items()}))
"""


def test_an_adapter_without_its_package_names_the_extra() -> None:
    command = [sys.executable, "-c", PROGRAM, json.dumps(PACKAGES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    refused = json.loads(done.stdout)
    assert set(refused) == set(PACKAGES)
    for module, message in refused.items():
        assert f"pip install 'steepest[{module}]'" in message
