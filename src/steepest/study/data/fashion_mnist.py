"""Fashion-MNIST: 60,000 + 10,000 images of clothes, 28x28, ten classes (Xiao, Rasul and Vollgraf 2017).

Every source has the same bytes once they are decompressed, so the decompressed bytes are checked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import Tensor

from steepest.study.data import digits, fetch, idx, places
from steepest.study.data.dataset import DataSet, Examples
from steepest.study.errors import DataError

NAME: Final = "fashion-mnist"
ADVICE: Final = "Get it with `steepest data fetch fashion-mnist`, or name its folder with --data-dir."


@dataclass(frozen=True)
class File:
    """One of the four official files, with the shape and the digest of its decompressed content."""

    name: str
    shape: tuple[int, ...]
    sha256: str


FILES: Final = (
    File(
        "train-images-idx3-ubyte",
        (60_000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    File(
        "train-labels-idx1-ubyte",
        (60_000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    File(
        "t10k-images-idx3-ubyte",
        (10_000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    File(
        "t10k-labels-idx1-ubyte",
        (10_000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)


def load(data_dir: Path | None = None) -> DataSet:
    """Return Fashion-MNIST from the first folder that has it, else download it.

    If that fails, return the digits instead.
    """
    try:
        folder = find(data_dir) or get(data_dir)
    except fetch.FetchError as error:
        return digits.stand_in("Fashion-MNIST", 28, f"{ADVICE} ({error})")
    return read(folder)


def find(data_dir: Path | None = None) -> Path | None:
    """Return the first folder of the search order that holds the files. Reading a damaged file raises an error."""
    names = [file.name for file in FILES]
    for folder in places.search_order(NAME, data_dir):
        missing = [name for name in names if not located(folder, name)]
        if not missing:
            return folder
        if data_dir is not None and data_dir in (folder, *folder.parents) and len(missing) < len(names):
            raise DataError(f"{folder} holds only a part of Fashion-MNIST; missing: {', '.join(missing)}. {ADVICE}")
    return None


def obtain(data_dir: Path | None = None) -> Path:
    """Return a folder that holds the files undamaged, after downloading the missing ones.

    With `data_dir` it is that folder; without it, any folder of the search order.
    """
    folder = None if data_dir is not None else find()
    return folder or get(data_dir)


def get(data_dir: Path | None = None) -> Path:
    """Download the files that are missing or damaged into `data_dir` (default: the user's cache); return the folder."""
    folder = data_dir or places.cache_folder(NAME)
    wanted = [file.name for file in FILES if not whole(folder, file)]
    if wanted:
        fetch.fetch(wanted, folder, check)
    return folder


def read(folder: Path) -> DataSet:
    """Read and check the four files of a folder."""
    arrays = [_load_file(folder, file) for file in FILES]
    return DataSet(
        name=NAME,
        source=str(folder),
        train=_examples(arrays[0], arrays[1]),
        test=_examples(arrays[2], arrays[3]),
        sha256={file.name: file.sha256 for file in FILES},
    )


def located(folder: Path, name: str) -> Path | None:
    """Return the path of a file in a folder, compressed or plain."""
    candidates = (folder / f"{name}.gz", folder / name)
    return next((path for path in candidates if path.is_file()), None)


def check(name: str, path: Path) -> Tensor:
    """Return the array in a file, or raise DataError when it is not byte for byte the official one."""
    file = next(file for file in FILES if file.name == name)
    content = idx.read_bytes(path)
    array = idx.parse(content, path)
    if tuple(array.shape) != file.shape:
        raise DataError(f"{path} has the wrong shape: {tuple(array.shape)}; Fashion-MNIST's is {file.shape}")
    if idx.sha256(content) != file.sha256:
        raise DataError(f"{path} is not the official file: SHA-256 {idx.sha256(content)}, expected {file.sha256}")
    return array


def whole(folder: Path, file: File) -> bool:
    """Return whether a folder has this file undamaged."""
    path = located(folder, file.name)
    try:
        return path is not None and check(file.name, path) is not None
    except DataError:
        return False


def _load_file(folder: Path, file: File) -> Tensor:
    path = located(folder, file.name)
    if path is None:
        raise DataError(f"{file.name} is missing from {folder}. {ADVICE}")
    try:
        return check(file.name, path)
    except DataError as error:
        raise DataError(f"{error}. Delete it and get a whole one: `steepest data fetch fashion-mnist`") from error


def _examples(images: Tensor, labels: Tensor) -> Examples:
    return Examples(images.unsqueeze(1), labels.long(), 255.0)
