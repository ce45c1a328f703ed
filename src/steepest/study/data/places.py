"""The folders in which data sets are searched."""

import os
from collections.abc import Iterator
from pathlib import Path

SYSTEM = Path("/usr/share/datasets")  # Debian's dataset-* packages
TORCHVISION_NAMES = {"fashion-mnist": "FashionMNIST/raw"}


def cache_folder(name: str) -> Path:
    """Return the folder for downloads in the user's cache."""
    return _cache() / "steepest" / name


def search_order(name: str, data_dir: Path | None) -> Iterator[Path]:
    """Yield every folder that may hold a data set: the user's choice, the system's, the caches."""
    torchvision = TORCHVISION_NAMES[name]
    if data_dir is not None:
        yield from (data_dir, data_dir / name, data_dir / torchvision)
    yield SYSTEM / name
    yield cache_folder(name)
    for root in (Path("data"), Path.home() / "data", Path.home() / ".cache" / "torchvision", _cache()):
        yield root / torchvision


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
