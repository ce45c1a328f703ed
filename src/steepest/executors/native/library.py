"""A compiled kernel in this process, and the functions of Python and torch that it calls."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base import UnsupportedError
from .cache import obtain
from .compiler import find_compiler
from .emit import Kernel


class Interpreter(ctypes.Structure):
    """Functions and objects with which a kernel reads Python's lists and torch's tensors; see launch.c."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in (
            "list_item",
            "dict_item",
            "type_of",
            "release",
            "view",
            "clear_error",
            "tensor",
            "parameter",
            "none",
        )
    ]


class Library:
    """One loaded kernel.

    Attributes:
        load: reads the addresses of tensors in Python lists.
        run: takes one step. Other Python threads run meanwhile.
        item_size: bytes per parameter of the table that ``load`` fills and ``run`` reads.
        written_size: bytes of the list of tensors that the kernel writes, for a number of parameters.
    """

    def __init__(self, path: Path) -> None:
        """Load the shared library at ``path``. Raises `OSError` if the system refuses."""
        holding, releasing = ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
        pointer, number, objects = ctypes.c_void_p, ctypes.c_int64, ctypes.py_object
        self.load = _prototype(
            holding.steepest_load,
            number,
            [pointer, pointer, number, objects, objects, objects, *(pointer,) * 5],
        )
        self.run = _prototype(
            releasing.steepest_run, None, [pointer, number, number, pointer, pointer, pointer, ctypes.c_int]
        )
        self.item_size: int = _prototype(releasing.steepest_item_size, number, [])()
        self.written_size = _prototype(releasing.steepest_written_size, number, [number])


def _prototype(function: Any, result: Any, arguments: list[Any]) -> Callable[..., Any]:
    function.restype, function.argtypes = result, arguments
    return function  # type: ignore[no-any-return]


_failed: dict[Kernel, str] = {}
"""Kernels that could not be compiled in this process, so that a hanging compiler is not asked again at every step."""


@cache
def _library(kernel: Kernel) -> Library:
    compiler = find_compiler()
    identity = compiler.identity + kernel.source
    try:
        return obtain(identity, lambda target: compiler.compile(kernel.source, target), Library)
    except AttributeError as error:
        raise UnsupportedError(f"the compiled kernel cannot be loaded: {error}") from error


def library_of(kernel: Kernel) -> Library:
    """Return the library of ``kernel``, compiled at its first use on this machine.

    Raises:
        UnsupportedError: the compiler is missing or fails, or its result cannot be loaded.
    """
    if kernel in _failed:
        raise UnsupportedError(_failed[kernel])
    try:
        return _library(kernel)
    except UnsupportedError as refusal:
        _failed[kernel] = str(refusal)  # the error itself would keep the step's tensors alive
        raise


@cache
def interpreter() -> Interpreter:
    """Return the functions and objects of Python and torch that a kernel uses.

    Raises:
        UnsupportedError: this torch does not have a DLPack exchange interface that we know.
    """
    api = ctypes.pythonapi
    functions = (api.PyList_GetItem, api.PyDict_GetItemWithError, api.PyObject_Type, api.Py_DecRef)
    addresses = [ctypes.cast(f, ctypes.c_void_p).value for f in functions]
    clear = ctypes.cast(api.PyErr_Clear, ctypes.c_void_p).value
    return Interpreter(*addresses, _view_function(), clear, id(Tensor), id(torch.nn.Parameter), id(None))


def _view_function() -> int:
    """Find torch's ``dltensor_from_py_object_no_sync``, of DLPack's C exchange interface (version 1.3)."""
    capsule = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        raise UnsupportedError(f"torch {torch.__version__} has no DLPack C exchange interface; torch 2.11 has")
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    address = get(capsule, b"dlpack_exchange_api")
    major = ctypes.c_uint32.from_address(address).value
    # Version, older interface, three functions that make tensors, then the one that describes a tensor.
    view = (ctypes.c_void_p * 6).from_address(address)[5]
    if major != 1 or not view:
        raise UnsupportedError(f"torch {torch.__version__} has DLPack {major}, and the native executor knows version 1")
    return int(view)


class _Threads:
    """Torch's own OpenMP pool."""

    is_forked = False

    def count(self) -> int:
        """Return the number of threads to use: torch's, or 1 in a forked child, which lacks the pool's threads."""
        return 1 if self.is_forked else torch.get_num_threads()

    def forked(self) -> None:
        self.is_forked = True


THREADS = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=THREADS.forked)


@cache
def parallel() -> int | None:
    """Find ``GOMP_parallel`` in the OpenMP library that torch has loaded. None runs all on one thread."""
    name = "libtorch_cpu.dylib" if sys.platform == "darwin" else "libtorch_cpu.so"
    try:
        function = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name)).GOMP_parallel
    except (OSError, AttributeError):
        return None
    return ctypes.cast(function, ctypes.c_void_p).value
