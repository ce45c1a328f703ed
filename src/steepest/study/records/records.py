"""Records as lines of JSON: the same record is always the same bytes."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Final

Record = dict[str, Any]
_LINE: Final = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


_PLAIN: Final = frozenset({str, int, bool, type(None)})


def encode(record: Mapping[str, Any]) -> bytes:
    r"""Return one line of JSON with sorted keys; numbers that JSON lacks become the strings nan, inf and -inf.

    >>> encode({"loss": float("nan"), "epoch": 1})
    b'{"epoch":1,"loss":"nan"}\n'
    """
    return (_flat(record) or _utf8(_LINE.encode(plain(record)))) + b"\n"


def _flat(record: Mapping[str, Any]) -> bytes | None:
    """Return the same bytes for a record of numbers and texts, quicker than the encoder; None for any other record."""
    parts = []
    for key in sorted(record):
        value = record[key]
        kind = type(value)
        if kind is str:
            value = _text(value)
        elif kind is not int and not (kind is float and math.isfinite(value)):
            return None
        parts.append(f"{_text(key)}:{value}")
    return _utf8(f"{{{','.join(parts)}}}")


@lru_cache(256)
def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def encode_document(document: object) -> bytes:
    """Return a whole document as indented JSON."""
    text = json.dumps(plain(document), sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False)
    return _utf8(text) + b"\n"


def _utf8(text: str) -> bytes:
    """Return the bytes of a JSON text. Unpaired surrogates (of a path, in the locale C) become escapes of JSON."""
    return text.encode("utf-8", "backslashreplace")


def number(value: float | str) -> float:
    """Return a stored number as a float, non-finite ones too."""
    return float(value)


def alike(left: Any, right: Any) -> bool:
    """Return whether two values are equal in a record. A record has lists in place of tuples.

    >>> alike({"betas": (0.9, 0.99)}, {"betas": [0.9, 0.99]})
    True
    """
    return bool(plain(left) == plain(right))


def plain(value: Any) -> Any:
    """Return a value in JSON's types only. A declared object becomes a mapping of its entries.

    An entry whose value is the one that its metadata call `unwritten` is left out.
    """
    if type(value) in _PLAIN:  # most values of the line that every step writes
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        entries = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: plain(item) for field, item in entries if field.metadata.get("unwritten", ...) != item}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
