"""Text in windows of bytes: the documentation that comes with Python, or files of the user's."""

import hashlib
import platform
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from steepest.study.data.dataset import DataSet, Examples
from steepest.study.errors import DataError

SYMBOLS: Final = 256  # the values of a byte: UTF-8 writes every language with them
WINDOW: Final = 64
TEST_SHARE: Final = 10  # one window in so many, at the end of the text, is for the test
FOLDER: Final = "text"
ADVICE: Final = f"Name a .txt file with --data-dir, or a folder whose subfolder '{FOLDER}' holds .txt files."


def load(data_dir: Path | None = None) -> DataSet:
    """Return the user's text if `data_dir` has one, else the documentation topics of this Python.

    Inputs are windows of 64 bytes, targets the bytes that follow each of them; both int64, (windows, 64). Windows
    share no byte and stay in the order of the text: the test set is its end.
    """
    name, source, content = _files(data_dir) or _topics()
    everything = windows(content)
    if len(everything) < TEST_SHARE:
        raise DataError(f"{source} holds {len(content):,} bytes; at least {TEST_SHARE * (WINDOW + 1):,} are needed")
    train = len(everything) - len(everything) // TEST_SHARE
    return DataSet(
        name=name,
        source=source,
        train=everything.at(torch.arange(train)),
        test=everything.at(torch.arange(train, len(everything))),
        sha256={name: hashlib.sha256(content).hexdigest()},
        in_order=True,
    )


def windows(content: bytes) -> Examples:
    """Cut bytes into windows of 65, without an incomplete last one: 64 inputs, and the byte after each of them.

    >>> windows(b"ab" * 65).inputs.shape
    torch.Size([2, 64])
    """
    symbols = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).astype(np.int64))
    cut: Tensor = symbols[: len(symbols) // (WINDOW + 1) * (WINDOW + 1)].view(-1, WINDOW + 1)
    return Examples(cut[:, :-1].contiguous(), cut[:, 1:].contiguous())


def without_repeats(texts: list[str]) -> str:
    """Return the paragraphs of all texts without repeats. Indentation does not count.

    >>> without_repeats(["One.\\n\\nTwo.", "  Two.\\n\\nThree."])
    'One.\\n\\nTwo.\\n\\nThree.'
    """
    kept: dict[str, str] = {}
    for text in texts:
        for paragraph in text.split("\n\n"):
            kept.setdefault(" ".join(paragraph.split()), paragraph)
    return "\n\n".join(kept.values())


def _files(data_dir: Path | None) -> tuple[str, str, bytes] | None:
    if data_dir is None:
        return None
    files = [data_dir] if data_dir.suffix == ".txt" else sorted((data_dir / FOLDER).glob("*.txt"))
    if not files:
        return None
    try:
        content = b"\n".join(file.read_bytes() for file in files)
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}. {ADVICE}") from error
    return "text", ", ".join(map(str, files)), content


def _topics() -> tuple[str, str, bytes]:
    """Return the topics of the standard library's `pydoc_data`: 370,000 bytes in Python 3.11.

    A fifth of it occurs in several topics. It is kept once, or the test set would repeat the training set.
    """
    try:
        from pydoc_data import topics
    except ImportError as error:
        raise DataError(f"this Python comes without its documentation topics (pydoc_data). {ADVICE}") from error
    texts = [topics.topics[topic] for topic in sorted(topics.topics)]
    source = f"pydoc_data.topics of Python {platform.python_version()}"
    return "python-topics", source, without_repeats(texts).encode()
