"""Reading IDX, the file format of MNIST and its successors: a magic number, the sizes, then bytes."""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from steepest.study.errors import DataError

UNSIGNED_BYTE = 0x08


def read_bytes(path: Path) -> bytes:
    """Return the file's content, decompressed when it is gzip (known by its first two bytes, not by its name)."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except EOFError as error:
        raise DataError(f"{path} is truncated: the compressed data ends too early") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is corrupt: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def parse(content: bytes, path: Path) -> Tensor:
    """Return the array that an IDX file of unsigned bytes holds; `path` only names it in errors."""
    shape = _shape(content, path)
    start = 4 + 4 * len(shape)
    expected = start + math.prod(shape)
    if len(content) != expected:
        fault = "truncated" if len(content) < expected else "too long"
        raise DataError(f"{path} is {fault}: its header promises {expected:,} bytes, it has {len(content):,}")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def sha256(content: bytes) -> str:
    """Return the SHA-256 of decompressed content: it does not depend on who compressed the file, or how well."""
    return hashlib.sha256(content).hexdigest()


def _shape(content: bytes, path: Path) -> tuple[int, ...]:
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE:
        raise DataError(f"{path} is no IDX file of unsigned bytes: it begins with {content[:4].hex(' ') or 'nothing'}")
    dimensions = content[3]
    if len(content) < 4 + 4 * dimensions:
        raise DataError(f"{path} is truncated: it ends inside its header")
    return struct.unpack_from(f">{dimensions}I", content, 4)
