"""The Triton executor without Triton: the text of kernels, tables, the choice of the executor and its refusals."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import steepest
from cases import Options
from native.support import python
from steepest import Optimizer
from steepest.executors import choose, torch_fused
from steepest.executors.dispatch import source
from steepest.executors.foreach import plan_for
from steepest.executors.triton import counters, executor, library, spelling, tables
from steepest.executors.triton.counters import HostCounters
from steepest.executors.triton.elements import BLOCK
from steepest.executors.triton.kernel import ARGUMENTS, Kernel
from steepest.executors.triton.layouts import Blocks
from steepest.fields import State
from steepest.group import values

from .support import CODED, KNOWN, ROWS_OF_DTYPES, TAKEN, coded_kernel_of, fixed_for, kernel_of, spec_for

LACKING = {"AdamAtan2": "atan2", "DiffGrad": "sigmoid", "MADGRAD": "cube_root", "Padam": "power"}
"""Words that the executor does not have in float64, by the class that needs them."""


def test_what_is_taken_and_what_is_not() -> None:
    def refused(dtype: torch.dtype) -> dict[str, str]:
        reasons = {cls.__name__: executor.unsupported(spec_for(cls, options, dtype)) for cls, options in KNOWN}
        return {name: reason for name, reason in reasons.items() if reason}

    assert refused(torch.float32) == refused(torch.bfloat16) == {}
    lacking = {name: f"the Triton executor does not have {word} of float64 yet" for name, word in LACKING.items()}
    assert refused(torch.float64) == lacking
    taken = {cls.__name__ for cls, _ in TAKEN}
    assert {"AdamW", "Lion", "NAdam", "Rprop", "NovoGrad", "LAMB", "LARS", "Prodigy"} <= taken
    assert len(TAKEN) >= 90
    assert {"Adafactor", "AdamMini", "AdamP", "CAME", "SGDP"} <= taken
    assert not executor.unsupported(spec_for(steepest.Lion, {"agc": 0.1}))
    of_axes = executor.unsupported(spec_for(steepest.SM3, {}))
    assert of_axes == "the Triton executor does not have the word axis_max"
    of_means = executor.unsupported(spec_for(steepest.Lion, {"centralize": True}))
    assert of_means == "the Triton executor does not have the word unit_mean"


def read_names(kernel: Kernel) -> dict[str, tuple[set[str], set[str]]]:
    """The names that each function of a kernel stores, and those that it loads."""
    functions = [n for n in ast.parse(kernel.source).body if isinstance(n, ast.FunctionDef)]
    names = {f.name: [n for n in ast.walk(f) if isinstance(n, ast.Name)] for f in functions}
    return {
        name: (
            {n.id for n in found if isinstance(n.ctx, ast.Store)},
            {n.id for n in found if isinstance(n.ctx, ast.Load)},
        )
        for name, found in names.items()
    }


def check_text(kernel: Kernel) -> None:
    """Check that a kernel's functions read what they name, name what they read, and leave gradients alone."""
    read = read_names(kernel)
    constants = set(re.findall(r"^(\w+) = tl\.constexpr", kernel.source, re.MULTILINE))
    for launch in kernel.launches:
        stored, loaded = read[launch.function]
        assert loaded - stored <= {"tl", "triton", "range", *ARGUMENTS, *fixed_for(kernel), *constants, *read}
        assert not stored - loaded - {"inside"}
    assert not re.search(r"\bat_\w+ \+ i(?!,|\))", kernel.source)
    assert [slot.name for slot in kernel.slots[:2]] == ["p", "g"]
    assert "tl.store(at_g +" not in kernel.source


@pytest.mark.thin("cls")
@pytest.mark.parametrize(("cls", "options", "dtype"), ROWS_OF_DTYPES)
def test_the_text_is_python_and_reads_what_it_names(cls: type[Optimizer], options: Options, dtype: torch.dtype) -> None:
    check_text(kernel_of(cls, options, dtype))


@pytest.mark.thin("cls")
@pytest.mark.parametrize(("cls", "coding"), CODED)
def test_the_text_of_coded_state(cls: type[Optimizer], coding: str) -> None:
    kernel = coded_kernel_of(cls, coding)
    check_text(kernel)
    if any(slot.dtype != kernel.slots[0].dtype for slot in kernel.slots):
        assert (kernel.layout, kernel.warps) == (Blocks(256), 1)


def test_one_launch_for_elements_and_three_with_sums() -> None:
    def launches(cls: type[Optimizer], **options: Any) -> list[str]:
        return [launch.function for launch in kernel_of(cls, options).launches]

    assert launches(steepest.AdamW) == launches(steepest.Lion, state_dtype="int8") == ["update"]
    assert launches(steepest.NovoGrad) == launches(steepest.LAMB) == ["add_1", "combine_1", "update"]
    assert launches(steepest.AdamW, update_rms=1.0) == ["add_1", "combine_1", "update"]


def test_adamws_kernel() -> None:
    text = kernel_of(steepest.AdamW, {}, torch.bfloat16).source
    whole, rest = text.split("    else:\n")
    assert "mask" not in whole
    assert rest.count("mask=inside") == 7
    for line in (
        "at_p = tl.load(row + 0).to(tl.pointer_type(tl.bfloat16)) + start",
        "at_p = tl.multiple_of(at_p, 16)",
        f"if left >= {BLOCK}:",
        "old_p = tl.load(at_p + i).to(tl.float32)",
        "tl.sqrt_rn(",
        "tl.div_rn(",
        ".to(tl.bfloat16))",
    ):
        assert line in whole, line


def test_the_host_part_is_that_of_the_plan() -> None:
    spec = spec_for(steepest.AdamW, {})
    numbers = {**values(spec.fields, spec.options)[0], "t": 3.0}
    constants, state = kernel_of(steepest.AdamW, {}).host(**numbers)
    of_plan, _ = plan_for(spec.program(), tuple(numbers)).host(**numbers)
    assert state == {}
    assert {1 - 0.9, 1 - 0.999, 1e-8} <= set(constants)
    assert set(constants) == set(of_plan)


# -- tables ----------------------------------------------------------------------------------------------------------


def slots(sizes: tuple[int, ...], offset: int = 0) -> list[list[torch.Tensor]]:
    return [[torch.zeros(size + offset)[offset:] for size in sizes] for _ in range(2)]


def test_a_table_has_addresses_sizes_first_tiles_rows_and_streams() -> None:
    made, streams = slots((BLOCK + 1, 0, 3, 2 * BLOCK)), [7, 8, 9, 1 << 40]
    held = tables.Tables(Blocks(BLOCK), (0, 1))
    table = held.of(made, [0, 1, 0, 2], streams)
    assert held.owners["tiles"].tolist() == [0, 0, 2, 3, 3]
    assert held.owners["tiles"].dtype == torch.int32
    columns = zip(*made, (0, 1, 0, 2), streams, (0, 2, 2, 3), strict=True)
    assert table.tolist() == [[p.data_ptr(), g.data_ptr(), *own, p.numel(), start] for p, g, *own, start in columns]
    assert held.fixed == {"IS_ALIGNED": True}


def test_tables_and_constants_are_uploaded_only_when_they_have_changed() -> None:
    made, held = slots((5, 6)), tables.Tables(Blocks(BLOCK), (0, 1))
    first, owners = held.of(made, [0, 0], [0, 0]), held.owners
    assert held.of(made, [0, 0], [0, 0]) is first
    made[1][0] = torch.zeros(5)
    changed = held.of(made, [0, 0], [0, 0])
    assert not torch.equal(changed, first)
    assert not torch.equal(held.of(made, [0, 1], [0, 0]), changed)
    assert held.owners is owners
    held.of([[torch.zeros(5), torch.zeros(BLOCK + 1)]] * 2, [0, 1], [0, 0])
    assert held.owners["tiles"].tolist() == [0, 1, 1]
    device, kept = torch.device("cpu"), tables.Constants()
    constants = kept.of([(0.1, 2.0), (3.0, 4.0)], torch.float32, device)
    assert kept.of([(0.1, 2.0), (3.0, 4.0)], torch.float32, device) is constants
    assert constants.tolist() == [[torch.tensor(0.1).item(), 2.0], [3.0, 4.0]]
    assert kept.of([(0.1, 1e300)], torch.float32, device).tolist()[0][1] == float("inf")
    assert not kept.of([(0.0,)], torch.float32, device).signbit()
    assert kept.of([(-0.0,)], torch.float32, device).signbit()


def test_one_address_between_multiples_of_16_bytes_is_noticed() -> None:
    held = tables.Tables(Blocks(BLOCK), (0, 1))
    held.of(slots((5, 6), offset=1), [0, 0], [0, 0])
    assert held.fixed == {"IS_ALIGNED": False}
    held.of(slots((5, 6), offset=4), [0, 0], [0, 0])
    assert held.fixed == {"IS_ALIGNED": True}
    of_first = tables.Tables(Blocks(BLOCK), (0,))
    of_first.of([slots((5, 6))[0], slots((5, 6), offset=1)[0]], [0, 0], [0, 0])
    assert of_first.fixed == {"IS_ALIGNED": True}


# -- counters --------------------------------------------------------------------------------------------------------

COUNTED = {"t": State("step", "step"), "mu_product": State("mu_product", "scalar")}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of counters in each reading that would wait for a device, were the CPU one."""
    seen: list[int] = []

    def noted(column: list[torch.Tensor]) -> torch.Tensor:
        seen.append(len(column))
        return stack(column)

    stack = torch.stack
    monkeypatch.setattr(counters, "is_read_always", lambda x: False)
    monkeypatch.setattr(torch, "stack", noted)
    return seen


def counted(steps: list[float], dtype: torch.dtype = torch.float32) -> list[dict[str, Any]]:
    return [{"step": torch.tensor(t, dtype=dtype), "mu_product": torch.tensor(1.0)} for t in steps]


def test_counters_are_read_once_and_then_known(waits: list[int]) -> None:
    states, rounded = counted([3.0, 8.0, 3.0]), torch.tensor(1 / 3).item()
    held = HostCounters.of_each(COUNTED, states)
    assert waits == [3, 3]
    for step in range(1, 4):
        assert held.is_current(COUNTED, states)
        held.advance()
        assert held.rows == [(t + step, 1.0 if step == 1 else rounded) for t in (3.0, 8.0, 3.0)]
        held.store({"mu_product": [1 / 3] * 3})
        assert [x["step"].item() for x in states] == [3.0 + step, 8.0 + step, 3.0 + step]
    assert waits == [3, 3]


def test_a_counter_that_somebody_has_written_is_read_again(waits: list[int]) -> None:
    states = counted([1.0, 1.0])
    held = HostCounters.of_each(COUNTED, states)
    waits.clear()
    states[1]["step"].fill_(9.0)
    assert held.is_current(COUNTED, states)
    assert waits == [2]
    assert held.rows == [(1.0, 1.0), (9.0, 1.0)]
    states[0]["step"] = torch.tensor(5.0)
    assert not held.is_current(COUNTED, states)
    del states[0]["step"]
    assert not held.is_current(COUNTED, states)


def test_a_count_is_rounded_as_its_tensor_is(waits: list[int]) -> None:
    states = counted([2.0**24])
    held = HostCounters.of_each(COUNTED, states)
    held.advance()
    assert held.rows == [(2.0**24 + 1, 1.0)]
    held.store({})
    assert held.rows == [(states[0]["step"].item(), 1.0)] == [(2.0**24, 1.0)]


def test_on_a_cpu_counters_are_read_at_every_step() -> None:
    states = counted([1.0])
    held = HostCounters.of_each(COUNTED, states)
    states[0]["step"].data.fill_(4.0)
    assert held.is_current(COUNTED, states)
    assert held.rows == [(4.0, 1.0)]


# -- choice and refusals ---------------------------------------------------------------------------------------------


class OnCuda:
    """A parameter that says that it is on a CUDA device."""

    device, dtype, shape = torch.device("cuda", 0), torch.float32, torch.Size([100, 100])

    def is_complex(self) -> bool:
        return False

    def numel(self) -> int:
        return self.shape.numel()


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with Triton and a device of compute capability 9.0, as far as the choice can see."""
    monkeypatch.setattr(library, "missing_triton", lambda: "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(executor, "PLAIN_TYPES", {OnCuda})
    monkeypatch.setattr(torch_fused, "_get_fused_kernels_supported_devices", lambda: ["cpu", "cuda"])


def chosen(cls: type[Optimizer], **options: Any) -> str:
    """The executor of a group on a CUDA device."""
    spec = spec_for(cls, options)
    return choose.choose(replace(spec, options={**spec.options, "params": [OnCuda()]})).executor.name


@pytest.mark.usefixtures("on_cuda")
def test_asked_for_it_runs_what_torch_has_no_function_for() -> None:
    assert chosen(steepest.Lion, fused=True) == "triton"
    assert chosen(steepest.AdamW, fused=True, ema_decay=0.9) == "triton"
    assert chosen(steepest.Lion, fused=True, state_dtype="int8") == "triton"
    assert {chosen(cls, fused=True) for cls in (steepest.LAMB, steepest.NovoGrad, steepest.Prodigy)} == {"triton"}
    assert chosen(steepest.AdamW, fused=True) == "torch"
    assert chosen(steepest.NAdam, fused=True, capturable=True) == "triton"


@pytest.mark.usefixtures("on_cuda")
def test_the_default_on_a_device_is_what_it_was() -> None:
    spec = spec_for(steepest.Lion, {})
    assert not executor.TRITON.suits(replace(spec, options={**spec.options, "params": [OnCuda()]}))


@pytest.mark.usefixtures("on_cuda")
def test_explain_shows_what_runs() -> None:
    def shown(device: str) -> str:
        spec = spec_for(steepest.Lion, {"fused": True})
        params = {"params": [OnCuda()]} if device == "cuda" else {}
        return source(replace(spec, options={**spec.options, **params}))

    assert "@triton.jit" in shown("cuda")
    assert "for (int64_t i = 0;" in shown("cpu")


@pytest.mark.usefixtures("on_cuda")
def test_a_group_on_several_kinds_of_device_is_refused() -> None:
    spec = spec_for(steepest.Lion, {"fused": True})
    for params in ([OnCuda(), torch.ones(2)], [torch.ones(2), OnCuda()]):
        mixed = replace(spec, options={**spec.options, "params": params})
        with pytest.raises(RuntimeError, match="`fused=True` runs on the CPU, and there are parameters on cuda"):
            choose.choose(mixed)


def test_parameters_on_a_cpu_never_ask_for_it() -> None:
    for cls in (steepest.Lion, steepest.AdamW):
        spec = spec_for(cls, {"fused": True})
        assert not executor.TRITON.suits(spec)
        assert choose.choose(spec).executor.name == "native"


@pytest.mark.usefixtures("on_cuda")
@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, r"Triton is not installed; install triton>=3.7: pip install 'steepest\[gpu\]'; leave fused=None"),
        ("3.2.0", "Triton 3.2.0 is installed, which is too old; install triton>=3.7"),
        ("3.7.1", ""),
        ("4.0.0+git1234", ""),
    ],
)
def test_no_triton_and_a_wrong_version(found: str | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        assert name == "triton"
        if found is None:
            raise library.PackageNotFoundError(name)
        return found

    monkeypatch.undo()
    monkeypatch.setattr(library, "version", version)
    library.missing_triton.cache_clear()
    spec = spec_for(steepest.Lion, {"fused": True})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(executor, "PLAIN_TYPES", {OnCuda})
    try:
        refusal = executor.TRITON.refusal(replace(spec, options={**spec.options, "params": [OnCuda()]}))
    finally:
        library.missing_triton.cache_clear()
    assert bool(re.search(words, refusal)) if words else refusal == ""


@pytest.mark.usefixtures("on_cuda")
def test_devices_that_are_too_old_or_of_another_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(RuntimeError, match=r"cuda:0 has compute capability 7.5, and the kernels need 8.0 or newer"):
        chosen(steepest.Lion, fused=True)
    monkeypatch.setattr(torch.version, "hip", "6.3")
    with pytest.raises(RuntimeError, match="cuda:0 is an AMD device, for which kernels were compiled, but no launch"):
        chosen(steepest.Lion, fused=True)


def test_dtypes_that_no_kernel_computes_with_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"computes with torch.float32, .* not torch.float8_e5m2"):
        kernel_of(steepest.Lion, {}, torch.float8_e5m2)


def test_nothing_of_the_library_imports_triton(tmp_path: Path) -> None:
    (tmp_path / "triton.py").write_text("raise RuntimeError('imported')\n")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import steepest; "
        "import steepest.executors.choose, steepest.executors.triton.bucket, steepest.executors.triton.library; "
        "print('triton' in sys.modules)"
    )
    assert python(program, PYTHONPATH=str(Path(steepest.__file__).parents[1])) == "False"
    assert "steepest.executors.triton" in sys.modules


def test_words_are_those_of_the_c_kernels() -> None:
    words = (Path(spelling.__file__).parents[1] / "native" / "words.c").read_text()
    assert all(f"{word}_" in words for word in (*spelling.WORDS, *spelling.FUNCTIONS))
    assert all(f"def {word}_f(" in spelling.words() for word in (*spelling.FUNCTIONS, "power"))


def test_the_functions_have_the_coefficients_of_the_c_kernels() -> None:
    theirs = (Path(spelling.__file__).parents[1] / "native" / "words.c").read_text()
    ours = {abs(float(n)) for n in re.findall(r"(?<![\w.])\d+\.\d+(?:e[+-]\d+)?", spelling.words())}
    fractions = {float.fromhex(n) for n in re.findall(r"0x1\.[0-9a-f]+p[+-]\d+", theirs)}
    assert len(fractions) == 26
    assert fractions <= ours
