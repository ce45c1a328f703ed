"""Reading Fashion-MNIST's files: what is right is read, whatever is wrong is named with its file and what to do."""

import gzip
from pathlib import Path

import pytest
import torch

from steepest.study.data import fashion_mnist, idx, places
from steepest.study.errors import DataError

from .support import encode_idx

IMAGES = "train-images-idx3-ubyte"


def test_compressed_and_plain_files_give_the_same_data(data_folder: Path, small_files: dict[str, bytes]) -> None:
    compressed = fashion_mnist.read(data_folder)
    for name, content in small_files.items():
        (data_folder / f"{name}.gz").unlink()
        (data_folder / name).write_bytes(content)
    plain = fashion_mnist.read(data_folder)
    assert torch.equal(compressed.train.inputs, plain.train.inputs)
    assert torch.equal(compressed.test.targets, plain.test.targets)
    assert compressed.train.inputs.dtype == torch.uint8
    assert compressed.train.inputs.shape == (20, 1, 28, 28)


def test_the_hash_does_not_depend_on_the_compression(data_folder: Path, small_files: dict[str, bytes]) -> None:
    for name, content in small_files.items():
        (data_folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
    assert len(fashion_mnist.read(data_folder).train) == 20


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        pytest.param(lambda raw: raw[: len(raw) // 2], "truncated", id="cut-off"),
        pytest.param(lambda raw: raw[:30] + b"\xff\xff\xff\xff" + raw[34:], "corrupt|truncated", id="bits-flipped"),
        pytest.param(lambda raw: gzip.compress(gzip.decompress(raw)[:-5]), "truncated.*promises", id="short-content"),
        pytest.param(lambda raw: gzip.compress(gzip.decompress(raw) + b"x"), "too long", id="long-content"),
        pytest.param(lambda raw: b"<html>not found</html>", "no IDX file", id="a-web-page"),
        pytest.param(lambda raw: b"", "no IDX file", id="empty"),
        pytest.param(lambda raw: gzip.compress(b"\0\0\x08\x03\0\0"), "inside its header", id="header-only"),
        pytest.param(
            lambda raw: gzip.compress(encode_idx(torch.zeros(20, 14, 14))), r"wrong shape: \(20, 14, 14\)", id="shape"
        ),
        pytest.param(
            lambda raw: gzip.compress(encode_idx(torch.zeros(20, 28, 28))), "not the official file", id="content"
        ),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(data_folder: Path, damage: object, complaint: str) -> None:
    path = data_folder / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=complaint) as caught:
        fashion_mnist.load(data_folder)
    assert str(path) in str(caught.value)
    assert "steepest data fetch fashion-mnist" in str(caught.value)


def test_an_unreadable_file_is_an_error_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        idx.read_bytes(tmp_path)


def test_a_folder_with_a_part_of_the_files_is_refused(data_folder: Path) -> None:
    (data_folder / f"{IMAGES}.gz").unlink()
    with pytest.raises(DataError, match=f"only a part.*{IMAGES}"):
        fashion_mnist.load(data_folder)


def test_the_search_order(tmp_path: Path, no_data_anywhere: Path, data_folder: Path) -> None:
    """The user's folder, then the system's, then the cache, then torchvision's: removed one by one."""
    order = [
        tmp_path / "mine",
        tmp_path / "system" / "fashion-mnist",
        tmp_path / "cache" / "steepest" / "fashion-mnist",
        Path("data") / "FashionMNIST" / "raw",
        tmp_path / "home" / "data" / "FashionMNIST" / "raw",
    ]
    for folder in order:
        folder.mkdir(parents=True)
        for file in data_folder.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    for folder in order:
        assert fashion_mnist.find(tmp_path / "mine") == folder
        for file in folder.iterdir():
            file.unlink()
    assert fashion_mnist.find(tmp_path / "mine") is None


def test_a_torchvision_folder_is_understood_as_data_dir(
    tmp_path: Path, no_data_anywhere: Path, data_folder: Path
) -> None:
    raw = tmp_path / "root" / "FashionMNIST" / "raw"
    raw.parent.mkdir(parents=True)
    data_folder.rename(raw)
    assert fashion_mnist.find(tmp_path / "root") == raw


def test_an_incomplete_cache_is_passed_over(no_data_anywhere: Path, data_folder: Path) -> None:
    cache = places.cache_folder("fashion-mnist")
    cache.parent.mkdir(parents=True)
    data_folder.rename(cache)
    assert fashion_mnist.find() == cache
    next(cache.iterdir()).unlink()
    assert fashion_mnist.find() is None


def test_without_any_data_the_digits_stand_in_and_say_so(no_data_anywhere: Path) -> None:
    data = fashion_mnist.load(None)
    assert data.name == "digits"
    assert data.train.inputs.shape[1:] == (1, 28, 28)
    assert data.fallback is not None
    for word in ("Fashion-MNIST was not found", "digits", "steepest data fetch fashion-mnist", "--data-dir"):
        assert word in data.fallback


def test_the_declared_files_are_the_real_ones() -> None:
    """The only test that reads the 30 MB of the real files, where a machine has them."""
    folder = fashion_mnist.find()
    if folder is None:
        pytest.skip("this machine has no Fashion-MNIST; `steepest data fetch fashion-mnist` gets it")
    data = fashion_mnist.read(folder)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.train.targets.bincount().tolist() == [6_000] * 10
    assert data.test.targets.bincount().tolist() == [1_000] * 10
    assert data.train.targets[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
