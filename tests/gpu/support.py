"""Triton without a GPU: kernels as text, compiled to PTX, and run by Triton's interpreter on a CPU."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cases import Options, buckets_of, is_full, label, spec_of
from steepest import Optimizer
from steepest.executors import choose
from steepest.executors.base import suits_planned
from steepest.executors.triton import bucket, count, executor, library
from steepest.executors.triton.kernel import ARGUMENTS, Kernel
from steepest.executors.triton.layouts import Tiling
from steepest.group import GroupSpec
from test_executors import ROWS
from test_storage import CODABLE, lively

WANTED = "STEEPEST_GPU"
"""Variable with which `make gpu-test` asks for what takes minutes."""


def triton_if_wanted() -> Any:
    """Triton, for a module of `make gpu-test`. Other runs skip it, also where torch has brought Triton along."""
    if not (os.environ.get(WANTED) or is_full()):
        pytest.skip("a test of make gpu-test", allow_module_level=True)
    return pytest.importorskip("triton", reason="Triton is not installed: make gpu-test")


DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

TYPES = {torch.float32: "*fp32", torch.float64: "*fp64"}
"""Triton's names of pointers to constants."""


def spec_for(cls: type[Optimizer], options: Options, dtype: torch.dtype = torch.float32) -> GroupSpec:
    """The specification of a group with one parameter. It is large enough to be coded."""
    return spec_of(cls([torch.ones(64, 80, dtype=dtype)], **options))


KNOWN = [(cls, options) for cls, options in ROWS if suits_planned(spec_for(cls, options)) and "fused" in cls.fields]
"""Each class that knows ``fused`` and is planned, with its defaults and with everything on."""

TAKEN = [(cls, options) for cls, options in KNOWN if not executor.unsupported(spec_for(cls, options))]
"""Those that the Triton executor takes in float32."""

ROWS_OF_DTYPES = [
    pytest.param(cls, options, dtype, id=f"{label(cls, options)}-{str(dtype).removeprefix('torch.')}")
    for cls, options in TAKEN
    for dtype in DTYPES
    if not executor.unsupported(spec_for(cls, options, dtype))
]
"""Those that it takes, with each dtype in which it takes them."""

CODINGS: dict[str, tuple[torch.dtype, Options]] = {
    "int8": (torch.float32, {"state_dtype": "int8"}),
    "bfloat16": (torch.float32, {"state_dtype": "bfloat16"}),
    "stochastic": (torch.bfloat16, {"state_dtype": "int8", "parameter_rounding": "stochastic"}),
    "kahan": (torch.bfloat16, {"state_dtype": "bfloat16", "parameter_rounding": "kahan"}),
}
"""Ways to store state and parameters in codecs, with the parameters' dtype."""

CODED = [
    pytest.param(cls, coding, id=f"{cls.__name__}-{coding}")
    for cls, options in TAKEN
    for coding, (dtype, storing) in CODINGS.items()
    if not options
    and cls in CODABLE.values()
    and not executor.unsupported(spec_for(cls, {**lively(cls), **storing}, dtype))
]
"""Classes whose state can be coded, in each way."""


CAPTURABLE = [
    pytest.param(cls, options, id=label(cls, options))
    for cls, options in TAKEN
    if not options and "capturable" in cls.fields and cls.rule.shared is None
]
"""Those that count on the device if they are asked to."""


def kernel_of(cls: type[Optimizer], options: Options, dtype: torch.dtype = torch.float32) -> Kernel:
    """The kernel for a parameter whose gradient and plain state have its dtype."""
    spec = spec_for(cls, options, dtype)
    return bucket.kernel_like(spec, spec.options["params"][0])


def coded_kernel_of(cls: type[Optimizer], coding: str) -> Kernel:
    """The kernel of a class for a way of storing."""
    dtype, options = CODINGS[coding]
    return kernel_of(cls, {**lively(cls), **options}, dtype)


def compiled(kernel: Kernel, function: str, target: Any, *, is_aligned: bool = True, **options: Any) -> Any:
    """What Triton makes of a function of a kernel for a target, with the texts of each stage."""
    compiler = importlib.import_module("triton.compiler")
    rounded = TYPES[kernel.real]
    fixed: Options
    if function == count.FUNCTION:
        fixed, types = {}, dict(zip(count.ARGUMENTS, ("*i64", "*fp64", rounded, "*fp64", "i32"), strict=True))
    else:
        fixed, kinds = fixed_for(kernel, is_aligned=is_aligned), ("*i64", "*i32", rounded, *("*fp64",) * 4)
        types = {**dict(zip(ARGUMENTS, kinds, strict=True)), **dict.fromkeys(fixed, "constexpr")}
    source = compiler.ASTSource(library.loaded(kernel.source)[function], types, fixed)
    return compiler.compile(source, target=target, options={"num_warps": kernel.warps, **library.OPTIONS, **options})


def fixed_for(kernel: Kernel, *, is_aligned: bool = True) -> dict[str, int]:
    """The constants that a kernel's launches are compiled with, for matrices wide enough for the widest tiles."""
    return {"IS_ALIGNED": is_aligned, **({"LOG_WIDTH": 7} if isinstance(kernel.layout, Tiling) else {})}


def amd() -> Any:
    """A device of AMD's, gfx942, whose warps have 64 threads."""
    return importlib.import_module("triton.backends.compiler").GPUTarget("hip", "gfx942", 64)


def nvidia(capability: int) -> Any:
    """A device of NVIDIA's of a compute capability, such as 80."""
    return importlib.import_module("triton.backends.compiler").GPUTarget("cuda", capability, 32)


def rounded_to_bfloat16(x: Any) -> Any:
    """The bits of the nearest bfloat16 numbers, to even, in NumPy."""
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(x == x, rounded, 0x7FC0).astype(np.uint16)


def read_as_bfloat16(bits: Any) -> Any:
    """The numbers that bits of bfloat16 mean, in NumPy."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


CONVERSIONS = {("fp32", "bf16"): rounded_to_bfloat16, ("bf16", "fp32"): read_as_bfloat16}
"""Conversions that Triton's interpreter has wrong: it rounds about half of all numbers to another neighbour, and reads
subnormal ones as others.
"""


def _reduced(language: Any, combine: Any, x: Any, axis: int) -> Any:
    """A reduction, for the interpreter: Triton's own were made for the compiler when it was imported."""
    return language.reduce(x, axis, combine)


@contextlib.contextmanager
def interpreting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let Triton's interpreter run kernels, with right conversions of bfloat16."""
    triton = importlib.import_module("triton")
    interpreter = importlib.import_module("triton.runtime.interpreter")
    theirs = interpreter._convert_float

    def convert(x: Any, source: Any, target: Any, rounding: Any) -> Any:
        ours = CONVERSIONS.get((str(source), str(target)))
        return theirs(x, source, target, rounding) if ours is None else ours(x)

    monkeypatch.setattr(interpreter, "_convert_float", convert)
    language = triton.language
    for name, combine in (("sum", language.standard._sum_combine), ("max", language.standard._elementwise_max)):
        monkeypatch.setattr(language, name, partial(_reduced, language, combine))
    library.loaded.cache_clear()
    with triton.knobs.runtime.scope(), np.errstate(all="ignore"):
        triton.knobs.runtime.interpret = True
        yield
    library.loaded.cache_clear()


@contextlib.contextmanager
def triton_for_fused(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the Triton executor where the native executor is, so that ``fused=True`` asks for it on a CPU."""
    ours = {"make_buckets": bucket.make_buckets, "is_capturable": True}
    executors = tuple(replace(e, **ours) if e.name == "native" else e for e in choose.EXECUTORS)
    with monkeypatch.context() as patch:
        patch.setattr(choose, "EXECUTORS", executors)
        yield


def ran_triton(optimizer: Optimizer) -> bool:
    """Whether the last step was one of Triton's."""
    made = buckets_of(optimizer)
    return bool(made) and all(isinstance(each, bucket.LaunchBucket) for each in made)


def copies(tensors: Sequence[Tensor]) -> list[torch.nn.Parameter]:
    """Parameters with the values, layouts and alignments of ``tensors``."""
    return [torch.nn.Parameter(_placed_as(x)) for x in tensors]


def _placed_as(x: Tensor) -> Tensor:
    storage = torch.empty(x.untyped_storage().nbytes() // x.element_size(), dtype=x.dtype)
    return storage.as_strided(x.shape, x.stride(), x.storage_offset()).copy_(x)
