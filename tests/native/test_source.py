"""The generated C itself: it compiles without a warning, and neither reads nor writes where it must not.

The sanitizers see a program of its own, not Python: a small main plays interpreter, with tensors that end exactly
where their memory ends.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from cases import NATIVE, every_native_class, spec_of
from steepest import Momentum, Optimizer, SteepestDescent
from steepest.executors.native import executor
from steepest.executors.native.emit import Kernel
from test_executors import everything_on

from .support import parameters

GCC = shutil.which("gcc")

MAIN = r"""
#include <stdio.h>
#include <stdlib.h>

/* An object: a tensor, a list of objects, or a dictionary, where the key is an address. */
typedef struct Thing {
  View view;
  struct Thing **items;
  int64_t shape[2], stride[2];
} Thing;

static Object *list_item(Object *list, ptrdiff_t i) { return ((Thing *)list)->items[i]; }
static Object *dict_item(Object *dict, Object *key) { return ((Thing *)dict)->items[*(int *)key]; }
static int tensor_type, parameter_type, none;
static Object *type_of(Object *x) { return x ? &tensor_type : 0; }
static void release(Object *type) { (void)type; }
static void clear_error(void) {}
static int view(Object *x, View *out) { return *out = ((Thing *)x)->view, 0; }

static Thing *thing(int64_t count) {
  Thing *made = calloc(1, sizeof(Thing));
  made->items = calloc((size_t)(count ? count : 1), sizeof(Thing *));
  return made;
}

/* Exactly as many bytes as its elements need, so that the next byte is out of bounds. Values go up and down
   with a period of 17, in steps of ``pace``. */
static Thing *tensor(Dtype dtype, int64_t rows, int64_t columns, int pace) {
  Thing *made = thing(0);
  const int64_t size = rows * columns;
  const size_t bytes = (size_t)size * dtype.bits / 8;
  char *data = malloc(bytes ? bytes : 1);
  for (int64_t i = 0; i < size; i++) {
    const int place = (int)(i * pace % 17);
    const double value = 0.25 + place / 16.0;
    const float narrow = (float)value;
    if (dtype.bits == 64) memcpy(data + 8 * i, &value, 8);
    else if (dtype.bits == 32) memcpy(data + 4 * i, &narrow, 4);
    else memcpy(data + 2 * i, &(uint16_t){dtype.code == BFLOAT ? 0x3f00 + place : 0x3800 + place}, 2);
  }
  made->shape[0] = rows, made->shape[1] = columns;
  made->stride[0] = columns, made->stride[1] = 1;
  made->view = (View){data, CPU, 0, 2, dtype.code, dtype.bits, 1, made->shape, made->stride, 0};
  return made;
}

static unsigned shuffled;

/* Plays torch's pool: runs the work several times over on one thread, as threads that come one after the other. */
static void pool(void (*work)(void *), void *argument, unsigned threads, unsigned flags) {
  (void)flags;
  for (unsigned i = 0; i < threads; i++) work(argument);
  shuffled++;
}

int main(void) {
  static const int64_t rows[] = {0, 1, 1, 1, 16, 17, 1, 1, 1, 5, 3 * BLOCK + 5, 99, 1};
  static const int64_t columns[] = {
      1, 1, 2, 15, 1, 17, BLOCK - 1, BLOCK, BLOCK + 1, 0, 3, 2 * BLOCK + 5, FEW_ELEMENTS + 7};
  const int64_t count = sizeof(rows) / sizeof(*rows);
  const Interpreter python = {list_item, dict_item, type_of, release, view, clear_error,
                              &tensor_type, &parameter_type, &none};
  int keys[SLOTS + COUNTERS];
  Object *names[SLOTS + COUNTERS];
  int64_t *streams = calloc((size_t)count, sizeof(int64_t)), changed = 1, needed = 0;
  Thing *params = thing(count), *grads = thing(count), *states = thing(count);
  for (int n = 0; n < SLOTS + COUNTERS; n++) keys[n] = n, names[n] = &keys[n];
  for (int64_t i = 0; i < count; i++) {
    params->items[i] = tensor(DTYPES[0], rows[i], columns[i], 1);
    grads->items[i] = tensor(DTYPES[1], rows[i], columns[i], 5);
    states->items[i] = thing(SLOTS + COUNTERS);
    for (int n = 2; n < SLOTS + COUNTERS; n++) {
      const int layout = n < SLOTS ? LAYOUTS[n] : TENSOR;
      const int64_t high = layout == LIKE || layout == ROW ? rows[i] : 1;
      states->items[i]->items[n] = tensor(DTYPES[n], high, layout == LIKE || layout == COLUMN ? columns[i] : 1, 3);
    }
  }
  double *numbers = malloc(sizeof(double) * GIVEN);
  for (int n = 0; n < GIVEN; n++) numbers[n] = 0.25;
  Item *items = calloc((size_t)count, (size_t)steepest_item_size());
  Written *written = malloc((size_t)steepest_written_size(count));
  for (int step = 0; step < 3; step++) {
    const int64_t blocks = steepest_load(&python, items, count, params, grads, states, names, &changed, streams,
                                         written, &needed);
    if (blocks < 0) return printf("refused: %lld\n", (long long)blocks), 1;
    double *scratch = malloc(sizeof(double) * (size_t)needed);
    steepest_run(items, count, blocks, numbers, scratch, step ? pool : 0, step ? 3 : 1);
    free(scratch);
  }
  Thing *last = params->items[count - 1], *fresh = tensor(DTYPES[0], rows[count - 1], columns[count - 1], 1);
  const int moved = memcmp(last->view.data, fresh->view.data, (size_t)columns[count - 1] * DTYPES[0].bits / 8);
  printf("ran %u times in the pool, %s\n", shuffled, moved ? "and moved" : "in vain");
  fflush(stdout);
  _Exit(0); /* what main has allocated is no leak of the kernel's */
}
"""


def kernel_of(cls: type[Optimizer], dtype: torch.dtype, options: dict[str, Any]) -> Kernel:
    optimizer = cls(parameters([(3, 4)], dtype), **options)
    return executor.kernel_of(spec_of(optimizer))


def compiled(text: str, folder: Path, *flags: str) -> Path:
    """A program or object of C, which must compile without a word."""
    assert GCC is not None
    source, target = folder / "program.c", folder / "program"
    source.write_text(text, encoding="utf-8")
    command = [GCC, "-std=c11", *flags, "-o", str(target), str(source), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return target


needs_gcc = pytest.mark.skipif(GCC is None, reason="calls gcc by name, for its warnings and sanitizers")


@needs_gcc
@every_native_class
def test_what_is_explained_is_printed_and_compiles(
    cls: type[Optimizer], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without a warning that tells of a mistake (unused functions are the vocabulary's)."""
    for options in ({}, everything_on(cls)):
        optimizer = cls(parameters([(3, 4)]), **options)
        text = optimizer.explain()
        assert capsys.readouterr().out == text + "\n"
        spec = spec_of(optimizer)
        kernels = [executor.kernel_of(each) for each in (spec.measuring(), spec) if each is not None]
        assert text == "\n".join(kernel.generated for kernel in kernels)
        for function in ("host", "reduce", "combine", "update"):
            assert text.count(f"static void {function}(") == len(kernels)
        for kernel in kernels:
            assert all(line in kernel.source for line in kernel.generated.splitlines())
            warnings = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-unused-variable")
            compiled(kernel.source, tmp_path, *warnings, "-Wno-unused-function", "-fsyntax-only")


def test_every_group_is_explained_once() -> None:
    same = Momentum([{"params": parameters([(3,)])}, {"params": parameters([(4,)]), "lr": 0.5}])
    other = Momentum([{"params": parameters([(3,)])}, {"params": parameters([(4,)]), "weight_decay": 0.5}])
    assert same.explain().count("static void update(") == 1
    assert other.explain().count("static void update(") == 2


def test_a_rule_that_no_kernel_runs_is_not_explained() -> None:
    with pytest.raises(RuntimeError, match="is a driver rule, which the native executor does not run"):
        SteepestDescent(parameters([(3,)])).explain()


SANITIZED = [
    ("adamw", torch.float32, False),
    ("novograd", torch.bfloat16, False),
    ("adafactor", torch.float32, False),
    pytest.param("came", torch.bfloat16, True, marks=pytest.mark.slow),
    pytest.param("adamp", torch.float64, True, marks=pytest.mark.slow),
    pytest.param("adadelta", torch.float64, True, marks=pytest.mark.slow),
    pytest.param("nadam", torch.bfloat16, False, marks=pytest.mark.slow),
    pytest.param("rmsprop", torch.float16, True, marks=pytest.mark.slow),
    pytest.param("novograd", torch.float32, True, marks=pytest.mark.slow),
    pytest.param("radam", torch.float32, True, marks=pytest.mark.slow),
    pytest.param("sgd", torch.float16, False, marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def sanitizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """gcc's flags for AddressSanitizer and UndefinedBehaviorSanitizer, where it has them."""
    if GCC is None:
        pytest.skip("gcc is not installed")
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    source = tmp_path_factory.mktemp("sanitizers") / "empty.c"
    source.write_text("int main(void) { return 0; }")
    command = [GCC, *flags, "-o", str(source.with_suffix("")), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        pytest.skip(f"gcc has no libasan or libubsan here: {done.stderr[-200:]}")
    return flags


@pytest.mark.parametrize(("name", "dtype", "everything"), SANITIZED)
def test_sanitizers_find_nothing(
    name: str, dtype: torch.dtype, everything: bool, tmp_path: Path, sanitizers: tuple[str, ...]
) -> None:
    kernel = kernel_of(NATIVE[name], dtype, everything_on(NATIVE[name]) if everything else {})
    program = compiled(with_main(kernel), tmp_path, *sanitizers)
    phases, adding = (int(re.findall(rf"#define {n} (\d+)", kernel.generated)[0]) for n in ("PHASES", "ADDING"))
    shared = 1 + adding.bit_count() + (phases if kernel.view != "elements" else 0)
    assert run(program) == f"ran {2 * shared} times in the pool, and moved"


def with_main(kernel: Kernel) -> str:
    return "\n".join([kernel.source, f"enum {{ GIVEN = {max(1, len(kernel.numbers))} }};", MAIN])


def run(program: Path) -> str:
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[:4000]
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_sanitizers_would_find_a_step_beyond_the_end(tmp_path: Path, sanitizers: tuple[str, ...]) -> None:
    """The check of the check: one element too many."""
    kernel = kernel_of(NATIVE["adamw"], torch.float32, {})
    beyond = with_main(kernel).replace("i < high - low", "i <= high - low")
    program = compiled(beyond, tmp_path, *sanitizers)
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
