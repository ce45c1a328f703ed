"""Packages whose names are loaded when they are first asked for."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

STUDY_PACKAGES: Final = ("typer", "rich", "numpy", "scipy", "sklearn", "matplotlib", "plotly", "jinja2")
"""The packages that the extra `steepest[study]` installs, by the names that are imported."""


def loader(package: str, what: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package.

    It raises ModuleNotFoundError, with the words to install it, where a package of the extra is missing.

    Args:
        package: the package's name.
        what: the word for it in the error, such as `studies`.
        homes: the modules of the package, and the names that each has.
    """

    def find(name: str) -> Any:
        for home, names in homes.items():
            if name in names:
                return getattr(loaded(home), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def loaded(home: str) -> Any:
        try:
            return importlib.import_module(f".{home}", package)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in STUDY_PACKAGES:
                raise
            raise ModuleNotFoundError(
                f'{what} need {error.name}, which is not installed: pip install "steepest[study]"', name=error.name
            ) from error

    return find
