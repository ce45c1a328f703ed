"""Python files of the user's: workloads and optimizers that lie beside their own code."""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from steepest.study.errors import StudyError, UsageError


@cache
def load(text: str) -> ModuleType:
    """Run a Python file once and return it as a module; it may import what lies beside it, as a script may."""
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"there is no file {text}; the folder is {Path.cwd()}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{text} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules.setdefault(path.stem, module)  # so that its classes can be found by their names
    try:
        spec.loader.exec_module(module)
    except StudyError:
        raise
    except Exception as error:
        raise UsageError(f"{text} stopped with {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module
