"""What the commands print, and with which exit code."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from own_work import TASK
from steepest import registry
from steepest.cli import reporting
from steepest.cli.encoding import IN_ASCII, let_no_letter_raise, printable
from steepest.study import workloads
from steepest.study.data import digits, fashion_mnist, fetch, places
from steepest.study.records.format import SCHEMA

WRITE = reporting.write
SMOKE = ("study", "digits", "--preset", "smoke", "--timing-rounds", "0")


def test_a_study_says_what_it_runs_and_what_came_out(steepest: Any, no_report: None) -> None:
    answer = steepest(*SMOKE, "-o", "sgd", "-o", "adam[eps=0.1]", "--seeds", "2")
    assert answer.code == 0
    assert answer.err == ""
    assert "data       digits from scikit-learn: 128 training, 64 validation and 64 test examples" in answer.out
    assert "Adam[eps=0.1]: lr=0.01, betas=(0.9, 0.999), eps=0.1, weight_decay=0" in answer.out
    assert "[1/4] SGD seed 0: epoch 1/1, loss 2.4" in answer.out
    assert "[4/4] Adam[eps=0.1] seed 1: finished, test accuracy" in answer.out
    assert re.search(r"^Adam\[eps=0\.1\] +lr=0\.01 +\d+\.\d\d ± \d+\.\d\d%", answer.out, re.MULTILINE)
    assert answer.out.endswith("report: studies/digits-smoke/report/index.html\n")
    assert "\x1b" not in answer.out


def test_the_same_command_again_runs_nothing_twice(steepest: Any, no_report: None) -> None:
    first = steepest(*SMOKE, "-o", "sgd")
    again = steepest(*SMOKE, "-o", "sgd")
    assert again.code == 0
    assert "1 trial had been done before" in again.out
    assert "seed 0: epoch" not in again.out
    table = first.out.index("SGD has a test accuracy of")
    assert again.out.endswith(first.out[table:])


def test_the_report_is_written_from_the_stored_study(steepest: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "write", lambda folder: folder)
        assert steepest(*SMOKE, "-o", "sgd").code == 0
    page = Path("studies/digits-smoke/report/index.html")
    answer = steepest("report", "studies/digits-smoke")
    assert (answer.code, answer.out) == (0, f"report: {page}\n")
    assert "SGD" in page.read_text()


def test_a_report_that_cannot_be_written_is_a_failure(steepest: Any, no_report: None) -> None:
    steepest(*SMOKE, "-o", "sgd")
    Path("studies/digits-smoke/report").write_text("in the way")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "write", WRITE)
        answer = steepest("report", "studies/digits-smoke")
    assert answer.code == 1
    assert answer.err.startswith("Error: The report's file studies/digits-smoke/report/")


def test_a_diverged_trial_is_a_result(steepest: Any, no_report: None) -> None:
    answer = steepest(*SMOKE, "-o", "sgd[lr=1e20]")
    assert answer.code == 0
    assert re.search(r"SGD\[lr=1e\+20\] seed 0: diverged: loss is (nan|inf) at step \d", answer.out)
    assert "1 diverged" in answer.out


def test_a_failed_trial_is_a_failure_that_names_its_record(
    steepest: Any, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr("steepest.study.trials.trial._Trial.run", broken)
    answer = steepest(*SMOKE, "-o", "sgd")
    assert answer.code == 1
    assert "SGD seed 0: failed: ZeroDivisionError: no" in answer.out
    assert answer.err.startswith("Error: 1 trial failed; tracebacks are in studies/digits-smoke/trials")


def test_the_stand_in_is_announced_first(steepest: Any, no_report: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SYSTEM", Path("nothing"))
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.cwd() / "cache"))
    monkeypatch.setattr(fetch, "_sources", dict)
    few = ("--trials", "0", "--seeds", "1", "--timing-rounds", "0")
    answer = steepest("study", "logistic-regression", "--preset", "smoke", "-o", "sgd", *few)
    assert answer.code == 0
    assert "NOT THE DATA YOU ASKED FOR" in answer.out.splitlines()[0]
    assert answer.out.index("Fashion-MNIST was not found") < answer.out.index("model  ")
    (folder,) = Path("studies").iterdir()
    assert folder.name.endswith("-smoke-0-trials-on-digits")
    document = json.loads((folder / "study.json").read_text())
    assert "Fashion-MNIST was not found" in document["data"]["fallback"]


def test_options_reach_the_study(steepest: Any, no_report: None) -> None:
    answer = steepest(
        *SMOKE, "-o", "sgd", "--epochs", "2", "--precision", "bf16", "--all-train", "--out", "here", "--data-dir", "x"
    )
    assert answer.code == 0
    assert "no validation" in answer.out
    assert "epoch 2/2" in answer.out
    document = json.loads(Path("here/study.json").read_text())
    config = document["config"]
    assert (config["epochs"], config["precision"], config["all_train"]) == (2, "bf16", True)
    assert document["command"].startswith("steepest study digits --preset smoke --timing-rounds 0 -o sgd --epochs 2")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("studdy digits", "Did you mean 'study'?"),
        ("study digts", "unknown workload 'digts'; did you mean 'digits'? Choose from autoencoder"),
        ("study digits --presett smoke", "--preset"),
        ("study digits --preset smok", "unknown preset 'smok'; did you mean 'smoke'? Choose from smoke, quick, full"),
        ("study digits -o adaam", "unknown optimizer 'adaam'; did you mean 'adam'? (there are: ada"),
        ("study digits -o adam[lrr=1]", "did you mean 'lr'? (it has: lr, betas"),
        ("study digits -o adam[lr=-1]", "Invalid learning rate: -1"),
        ("study digits -o adam[lr=fast]", "adam[lr=fast]: lr must be a number >= 0, not 'fast'"),
        ("study digits -o adam[lr", "cannot read 'adam[lr'"),
        ("study digits -o sgd[nesterov=true]", "Nesterov momentum requires a momentum"),
        ("study digits --precision bf61", "unknown precision 'bf61'; did you mean 'bf16'? Choose from fp32, bf16"),
        ("study digits --epochs 0", "--epochs must be at least 1, not 0"),
        ("study digits --epochs two", "integer"),
        ("study digits --seeds 0", "--seeds must be at least 1, not 0"),
        ("study digits --preset smoke --out a-file", "a-file is a file; a study needs a folder"),
        ("study", "WORKLOAD"),
        ("study digits more", "more"),
        ("list optimisers", "unknown list 'optimisers'; did you mean 'optimizers'? Choose from optimizers, workloads"),
        ("list", "optimizers|workloads"),
        ("show adaam", "did you mean 'adam'?"),
        ("data fetch fashion", "did you mean 'fashion-mnist'?"),
        ("report nowhere", "nowhere is not a study folder: it has no study.json"),
        ("--verison", "--version"),
    ],
)
def test_wrong_usage_is_explained_with_exit_code_2(steepest: Any, arguments: str, told: str) -> None:
    Path("a-file").write_text("")
    answer = steepest(*arguments.split())
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert not Path("studies").exists()


def test_another_study_in_the_folder_is_wrong_usage(steepest: Any, no_report: None) -> None:
    steepest(*SMOKE, "-o", "sgd", "--out", "here")
    answer = steepest(*SMOKE, "-o", "sgd", "--out", "here", "--epochs", "3")
    assert answer.code == 2
    assert (
        "here holds another study. There and here: config.epochs is 1 and 3. Give another folder with --out"
        in answer.err
    )


def test_a_folder_that_cannot_be_written_is_a_failure(steepest: Any) -> None:
    Path("a-file").write_text("")
    answer = steepest(*SMOKE, "--out", "a-file/study")
    assert answer.code == 1
    assert answer.err.startswith("Error: cannot write a-file/study: Not a directory")


def test_damaged_data_is_a_failure_that_names_the_file(steepest: Any, tmp_path: Path) -> None:
    for file in fashion_mnist.FILES:
        Path(f"{file.name}.gz").write_bytes(b"damaged")
    answer = steepest("study", "fashion-mnist", "--preset", "smoke", "--data-dir", str(tmp_path))
    assert answer.code == 1
    assert f"{tmp_path}/train-images-idx3-ubyte.gz is no IDX file" in answer.err
    assert "steepest data fetch fashion-mnist" in answer.err


def test_a_study_of_another_schema_is_a_failure(steepest: Any) -> None:
    Path("study.json").write_text('{"schema": 7}')
    answer = steepest("report", ".")
    assert answer.code == 1
    assert "has schema 7" in answer.err


DAMAGED = (
    *(b"", b"\n", b"null", b"[]", b'"x"', b"{", b"\xff\xfe"),
    *(json.dumps({"schema": SCHEMA, **parts}).encode() for parts in ({}, {"trials": [1]})),
)


@pytest.mark.parametrize(
    "command", [("report", "."), ("rerun", ".", "x"), (*SMOKE, "--out", "."), ("report", ".", ".")]
)
def test_a_damaged_study_is_a_failure_in_one_line(steepest: Any, command: tuple[str, ...]) -> None:
    for content in DAMAGED:
        Path("study.json").write_bytes(content)
        answer = steepest(*command)
        assert (answer.code, answer.err.count("\n")) == (1, 1), content
        assert answer.err.startswith("Error: study.json is damaged (")
        assert Path("study.json").read_bytes() == content


def test_a_study_that_was_cut_is_a_failure_in_one_line(steepest: Any, no_report: None) -> None:
    steepest(*SMOKE, "-o", "sgd", "--out", "here")
    whole = json.loads(Path("here/study.json").read_text())
    for part in ("protocol", "optimizers", "trials", "command"):
        Path("here/study.json").write_text(json.dumps({**whole, part: None}))
        answer = steepest(*SMOKE, "-o", "sgd", "--out", "here")
        assert (answer.code, answer.err.count("\n")) == (1, 1)
        assert f"here/study.json is damaged ({part} is None, not " in answer.err


@pytest.mark.parametrize("kind", ["optimizers", "workloads"])
def test_lists_for_people_and_programs_agree(steepest: Any, kind: str) -> None:
    expected = registry.optimizers() if kind == "optimizers" else workloads.workloads()
    listed = json.loads(steepest("list", kind, "--json").out)
    assert [entry["name"] for entry in listed] == list(expected)
    assert all(entry["title"] for entry in listed)
    people = steepest("list", kind).out
    assert all(re.search(rf"^{name} ", people, re.MULTILINE) for name in expected)


def test_show_prints_a_page(steepest: Any) -> None:
    answer = steepest("show", "adam")
    assert answer.code == 0
    assert "Kingma" in answer.out
    assert steepest("show", "adam", "--latex").out != answer.out


LONG = "an_optimizer_with_a_rather_long_name_that_somebody_chose"


@pytest.mark.parametrize(("width", "folded"), [("80", True), ("300", False)])
def test_a_long_name_is_never_folded(
    steepest: Any, no_report: None, monkeypatch: pytest.MonkeyPatch, width: str, folded: bool
) -> None:
    Path("own.py").write_text(f"import torch\nclass {LONG}(torch.optim.SGD):\n    pass\n")
    monkeypatch.setenv("COLUMNS", width)
    answer = steepest(*SMOKE, "-o", "sgd", "-o", f"own.py:{LONG}", "--seeds", "2")
    rows = [line for line in answer.out.splitlines() if line.startswith(f"own.{LONG}")]
    if folded:
        assert rows == [f"own.{LONG}"]
        assert re.search(r"^  ran with lr=0\.1; test accuracy \d+\.\d\d ± ", answer.out, re.MULTILINE)
    else:
        assert re.fullmatch(rf"own\.{LONG} +lr=0\.1 +\d+\.\d\d ± .*not enough seeds.*2 finished *", rows[0])


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_every_sign_has_a_spelling_in_every_encoding(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    let_no_letter_raise()
    words = f"{''.join(IN_ASCII)} Größe"
    print(words, flush=True)
    shown = written.getvalue().decode(encoding)
    assert shown == f"{printable(words)}\n"
    assert ("+/-" in shown) == (encoding == "ascii")
    assert ("∞" in shown) == (encoding == "utf-8")


@pytest.mark.slow
def test_an_encoding_that_lacks_letters_stops_nothing(tmp_path: Path) -> None:
    """In a process of its own, whose streams really have that encoding; the report is written."""
    (tmp_path / "own.py").write_text("import torch\nclass Größe(torch.optim.SGD):\n    pass\n", encoding="utf-8")
    (tmp_path / "task.py").write_text(TASK, encoding="utf-8")
    code = "import sys; sys.argv[0] = 'steepest'; from steepest.cli.main import main; main()"
    options = ("study", "task.py", "-o", "own.py:Größe", "--trials", "0", "--seeds", "1", "--out", "größe")
    ran = subprocess.run(
        [sys.executable, "-c", code, *options, "--timing-rounds", "0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert rb"own.Gr\xf6\xdfe" in ran.stdout
    assert (tmp_path / "größe" / "report" / "index.html").is_file()


def test_a_locale_without_letters_has_folders_with_letters(steepest: Any, no_report: None, tmp_path: Path) -> None:
    half = "gr\udcc3\udcb6"  # what an argument looks like where the locale is C
    assert steepest(*SMOKE, "-o", "sgd", "--out", half).code == 0
    assert half in json.loads((tmp_path / half / "study.json").read_text())["command"]


def test_fetch_says_where_the_data_is(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "FILES", ())
    monkeypatch.setattr(fashion_mnist, "read", lambda folder: digits.load())
    answer = steepest("data", "fetch", "fashion-mnist", "--data-dir", "there")
    assert answer.code == 0
    assert answer.out == "fashion-mnist: there (1,437 training and 360 test examples, SHA-256 right)\n"


def test_fetch_without_any_source_is_a_failure(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_sources", dict)
    answer = steepest("data", "fetch", "fashion-mnist", "--data-dir", "there")
    assert answer.code == 1
    assert "no source could deliver it" in answer.err


def test_the_version(steepest: Any) -> None:
    answer = steepest("--version")
    assert answer.code == 0
    assert re.fullmatch(r"steepest \d+\.\d+\.\d+\n", answer.out)


def test_without_the_study_packages_the_remedy_is_told(steepest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "steepest.cli.app", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)
    answer = steepest("--help")
    assert answer.code == 1
    assert answer.err == 'Error: the command line and its studies need typer: pip install "steepest[study]"\n'


def test_a_missing_module_of_ours_is_a_bug_and_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from steepest.cli import main

    def missing() -> int:
        raise ModuleNotFoundError("No module named 'steepest.lost'", name="steepest.lost")

    monkeypatch.setattr(main, "_run", missing)
    with pytest.raises(ModuleNotFoundError):
        main.main()


@pytest.mark.usefixtures("no_report")
def test_verdicts_at_equal_gradient_evaluations(steepest: Any) -> None:
    """L-BFGS evaluates several times in a step, so it is read early; the answer says where."""
    few = ("--preset", "smoke", "--timing-rounds", "0", "--seeds", "6", "--trials", "0", "--epochs", "6")
    answer = steepest("study", "full-batch", "-o", "sgd", "-o", "lbfgs", *few, "--match", "evaluations")
    assert answer.code == 0
    assert "folder     studies/full-batch-smoke-6-epochs-equal-evaluations" in answer.out
    assert re.search(
        r"On validation accuracy at equal gradient evaluations \(6, the smallest total\), over 6 paired seeds",
        answer.out,
    )
    assert "better by, at equal gradient evaluations" in answer.out
