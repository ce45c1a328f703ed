"""Small studies on scikit-learn's digits, and small files in the format of Fashion-MNIST."""

import gzip
from pathlib import Path

import pytest
import torch

from quick import brief_timing  # noqa: F401 - a fixture
from steepest.study import workloads
from steepest.study.data import adapt, fashion_mnist, fetch, idx, places
from steepest.study.data.fashion_mnist import File
from steepest.study.planning.plan import Plan, make_plan
from steepest.study.planning.request import Request
from steepest.study.trials.task import Task

from .support import PlanMaker, Silent, encode_idx


@pytest.fixture
def silent() -> Silent:
    return Silent()


@pytest.fixture
def plan() -> PlanMaker:
    """Plan a smoke-sized study: `plan("adam", "sgd[lr=1]", workload="digits", seeds=2, ...)`."""

    def make(*optimizers: str, workload: str = "digits", seeds: int = 1, **wanted: object) -> Plan:
        wanted = {"trials_wanted": 0, "timing_rounds": 0, **wanted}
        declared = workloads.find(workload)
        request = Request(declared, "smoke", optimizers, seeds_wanted=seeds, **wanted)
        return make_plan(request, adapt.load(request.workload.data), "steepest study digits")

    return make


@pytest.fixture
def task(plan: PlanMaker) -> Task:
    return plan("sgd").task


@pytest.fixture
def no_data_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put every place of the search order inside an empty folder, and cut the network."""
    monkeypatch.setattr(places, "SYSTEM", tmp_path / "system")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "PUBLISHERS", ())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # no apt-get, no dpkg-deb
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Declare that the official files are tiny ones; return their content by name."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "train-images-idx3-ubyte": (20, 28, 28),
        "train-labels-idx1-ubyte": (20,),
        "t10k-images-idx3-ubyte": (10, 28, 28),
        "t10k-labels-idx1-ubyte": (10,),
    }
    contents = {name: encode_idx(torch.randint(0, 10, shape, generator=generator)) for name, shape in shapes.items()}
    files = tuple(File(name, shape, idx.sha256(contents[name])) for name, shape in shapes.items())
    monkeypatch.setattr(fashion_mnist, "FILES", files)
    return contents


@pytest.fixture
def data_folder(tmp_path: Path, small_files: dict[str, bytes]) -> Path:
    """Write the small files, compressed."""
    folder = tmp_path / "data-folder"
    folder.mkdir()
    for name, content in small_files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder
