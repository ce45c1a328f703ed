"""Text is cut into windows, and windows into sets, without a byte in two of them."""

import hashlib
import sys
from collections import Counter
from pathlib import Path

import pytest

from steepest.study import workloads
from steepest.study.data import text
from steepest.study.data.dataset import DataSet, Examples
from steepest.study.data.splits import Sizes, split
from steepest.study.declaration import PRESETS
from steepest.study.errors import DataError

SPAN = text.WINDOW + 1


def numbered(windows: int) -> bytes:
    """Return a text whose k-th window spells k."""
    return b"".join(f"{k:0{SPAN}d}".encode() for k in range(windows))


def spelled(examples: Examples) -> list[int]:
    """Return the number that every window spells; its last digit is a target only."""
    rows = zip(examples.inputs.tolist(), examples.targets.tolist(), strict=True)
    return [int(bytes([*inputs, targets[-1]])) for inputs, targets in rows]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_bytes(numbered(200) + b"cut off")
    return path


def test_targets_are_the_bytes_that_follow() -> None:
    content = bytes(range(SPAN))
    examples = text.windows(content)
    assert examples.inputs.tolist() == [list(range(64))]
    assert examples.targets.tolist() == [list(range(1, 65))]
    inputs, targets = examples.batch(slice(None))
    assert str(inputs.dtype) == str(targets.dtype) == "torch.int64"


def test_the_sets_are_blocks_of_the_text_that_share_no_window(book: Path) -> None:
    data = text.load(book)
    splits = split(data, Sizes(100, 30, 10))
    train, validation, test = map(spelled, (splits.train, splits.validation, splits.test))
    assert train == list(range(50, 150))
    assert validation == list(range(150, 180))
    assert test == list(range(190, 200))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_topics_of_this_python_are_split_without_overlap(preset: str) -> None:
    sizes = workloads.find("char-lstm")(preset).sizes
    assert sizes is not None
    data = text.load()
    splits = split(data, sizes)
    lengths = [len(part) for part in (splits.train, splits.validation, splits.test)]
    assert lengths == [sizes.train, sizes.validation, sizes.test]
    windows = [bytes(row) for part in (data.train, data.test) for row in part.inputs.tolist()]
    times = Counter(windows)
    # A handful of windows, rules of tables most of them, occurs at several places.
    where = {window: place for place, window in enumerate(windows) if times[window] == 1}
    assert len(where) > (0.98 if sys.version_info >= (3, 13) else 0.99) * len(windows)  # 3.13 repeats more of its rules
    train, validation, test = (
        [where[row] for row in map(bytes, part.inputs.tolist()) if row in where]
        for part in (splits.train, splits.validation, splits.test)
    )
    assert max(train) < min(validation)
    assert max(validation) < min(test)


def test_no_paragraph_of_the_topics_is_kept_twice() -> None:
    content = whole(text.load())
    paragraphs = [" ".join(one.split()) for one in content.decode(errors="replace").split("\n\n")]
    assert len(paragraphs) > 1_500
    assert len(set(paragraphs)) > len(paragraphs) - 3  # windows lose a byte or two where the text is cut at its end


def whole(data: DataSet) -> bytes:
    parts = (data.train, data.test)
    rows = [(*i, t[-1]) for part in parts for i, t in zip(part.inputs.tolist(), part.targets.tolist(), strict=True)]
    return bytes(symbol for row in rows for symbol in row)


def test_a_text_of_ones_own_is_a_file_or_a_folder_of_files(book: Path, tmp_path: Path) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "b.txt").write_bytes(numbered(20))
    (folder / "a.txt").write_bytes("Zeichen: ä".encode() * 50)
    (folder / "c.md").write_bytes(b"not read")
    for given, content in (
        (book, book.read_bytes()),
        (tmp_path, (folder / "a.txt").read_bytes() + b"\n" + (folder / "b.txt").read_bytes()),
    ):
        data = text.load(given)
        assert data.name == "text"
        assert data.sha256 == {"text": hashlib.sha256(content).hexdigest()}
        assert whole(data) == content[: len(content) // SPAN * SPAN]


def test_a_folder_without_text_leaves_the_topics(tmp_path: Path) -> None:
    assert text.load(tmp_path).name == "python-topics"
    assert text.load(tmp_path).source.startswith("pydoc_data.topics of Python 3.")


def test_text_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*nowhere\.txt: No such file.*--data-dir"):
        text.load(tmp_path / "nowhere.txt")
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(DataError, match=r"short\.txt holds 5 bytes; at least 650 are needed"):
        text.load(tmp_path / "short.txt")


def test_a_python_without_topics_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data", None)
    with pytest.raises(DataError, match=r"without its documentation topics.*Name a \.txt file with --data-dir"):
        text.load()
