"""TensorBoard, MLflow and Weights & Biases as they read back: what a study's files say, once, whatever happened."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn, randn
from torch.nn.functional import mse_loss

from logged import Curves, Memory, single, stored

from .support import need

need("tensorboard", "mlflow", "wandb")

from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from steepest.study import compare, log_study
from steepest.study.report.loggers.log import log_into

pytestmark = pytest.mark.filterwarnings("ignore")  # these packages warn of much that is none of our business

BLOCK, PIECE, WHOLE, LAST = 32768, struct.Struct("<IHB"), 1, 4  # checksum, length and kind of a piece

LARGEST = repr(1.7976931348623157e308)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned study of two optimizers on two seeds, one of whose trials ends in NaN and infinity."""
    folder = tmp_path_factory.mktemp("small") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steepest.study.report.write_report", lambda folder: folder / "report" / "index.html")
        compare(
            lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)),
            (randn(96, 4), randn(96, 1)),
            mse_loss,
            ["sgd", "adamw"],
            horizon=2,
            seeds=2,
            trials=2,
            timing_rounds=0,
            out=folder,
        )
    path = evaluations(folder)[0]
    records = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [record for record in records if record["kind"] == "step"]
    steps[-2]["loss"], steps[-1]["loss"] = "inf", "nan"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture
def study(small: Path, tmp_path: Path) -> Path:
    """A copy whose files a test may change."""
    return Path(shutil.copytree(small, tmp_path / "study"))


def evaluations(folder: Path) -> list[Path]:
    return sorted(folder.glob("trials/*-evaluation-*.jsonl"))


def set_losses(path: Path, loss: float, cut: int = 0) -> None:
    """Give every step of a record file this loss, and cut records off its end."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    changed = [{**record, "loss": loss} if record["kind"] == "step" else record for record in records]
    path.write_text("".join(json.dumps(record) + "\n" for record in changed[: len(changed) - cut]))


def expected(study: Path, search: bool = False) -> tuple[Memory, dict[str, Curves]]:
    """What a logger in memory got, and its curves with the results at the last step, where all three have them."""
    memory = Memory()
    log_study(study, memory, search=search)
    curves = {}
    for trial, points in memory.curves.items():
        assert points == stored(study, trial)
        last = max((step for _, step in points), default=0)
        results = {(name, last): repr(float(value)) for name, value in memory.ends[trial][1].items()}
        curves[trial] = points | results
    return memory, curves


def of_tensorboard(place: Path) -> dict[str, Curves]:
    """Every run's scalars, from one file; that none is there twice follows from the number of events."""
    found = {}
    for run in place.glob("[!.]*"):
        (_,) = run.iterdir()
        events = EventAccumulator(str(run), size_guidance={"scalars": 0})
        events.Reload()
        scalars = [(name, each) for name in events.Tags()["scalars"] for each in events.Scalars(name)]
        found[run.name] = {(name, each.step): repr(each.value) for name, each in scalars}
        assert len(scalars) == len(found[run.name])
    return found


def runs_of_mlflow(place: Path) -> list[Any]:
    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


def of_mlflow(place: Path) -> dict[str, Curves]:
    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    found = {}
    for run in runs_of_mlflow(place):
        history = [each for name in run.data.metrics for each in client.get_metric_history(run.info.run_id, name)]
        assert run.info.run_name not in found
        found[run.info.run_name] = {(each.key, each.step): repr(each.value) for each in history}
        assert len(history) == len(found[run.info.run_name])
    return found


def records_of_wandb(run: Path) -> list[Any]:
    """The records of a run's file: LevelDB's log after seven bytes, so that messages may be split in pieces."""
    (path,) = run.glob("*.wandb")
    data, place, message, records = path.read_bytes(), 7, b"", []
    while place < len(data):
        if BLOCK - place % BLOCK < PIECE.size:  # too little is left of the block for a piece: zeros
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = PIECE.unpack_from(data, place)
        place += PIECE.size + length
        message += data[place - length : place]
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(message)
            records.append(record)
            message = b""
    return records


def of_wandb(place: Path) -> dict[str, Curves]:
    """Every run's history, its summary's figures at the last step."""
    found: dict[str, Curves] = {}
    for run in place.glob("wandb/offline-run-*"):
        records = records_of_wandb(run)
        (name,) = [record.run.display_name for record in records if record.HasField("run")][:1]
        assert name not in found
        points: Curves = found.setdefault(name, {})
        for record in (record for record in records if record.HasField("history")):
            row = {"".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            step = row.pop("_step")
            values = {(key, step): repr(float(value)) for key, value in row.items() if not key.startswith("_")}
            assert not points.keys() & values.keys()
            points |= values
        summary = {
            item.key: json.loads(item.value_json)
            for record in records
            if record.HasField("summary")
            for item in record.summary.update
        }
        last = max((step for _, step in points), default=0)
        points |= {(key, last): repr(value) for key, value in summary.items() if key.startswith("test_")}
    return found


def clamped(curves: Curves) -> Curves:
    """The same with MLflow's number for infinity."""
    return {place: LARGEST if value == "inf" else value for place, value in curves.items()}


READERS: dict[str, tuple[Callable[[Path], dict[str, Curves]], Callable[[Curves], Curves]]] = {
    "tensorboard": (of_tensorboard, single),
    "mlflow": (of_mlflow, clamped),
    "wandb": (of_wandb, dict),
}


def check(tool: str, study: Path, place: Path, search: bool = False) -> None:
    reader, as_stored_there = READERS[tool]
    wanted = {trial: as_stored_there(curves) for trial, curves in expected(study, search)[1].items()}
    assert reader(place) == wanted


@pytest.mark.parametrize("tool", READERS)
def test_every_figure_is_there_once(study: Path, tmp_path: Path, tool: str) -> None:
    place, logged = log_into(study, tool, tmp_path, search=True)
    assert len(logged) == 4 + 6
    check(tool, study, place, search=True)
    assert log_into(study, tool, tmp_path, search=True) == (place, [])


@pytest.mark.parametrize("tool", READERS)
def test_a_trial_that_runs_is_there_and_grows(study: Path, tmp_path: Path, tool: str) -> None:
    path = evaluations(study)[1]
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for length in (1, len(lines) // 2, len(lines)):
        path.write_bytes(b"".join(lines[:length]))
        place, logged = log_into(study, tool, tmp_path)
        assert path.stem in logged
        check(tool, study, place)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("tool", READERS)
def test_a_trial_that_began_anew_with_other_numbers_replaces_the_old_one(
    study: Path, tmp_path: Path, tool: str
) -> None:
    log_into(study, tool, tmp_path)
    path = evaluations(study)[1]
    set_losses(path, 7.5, cut=3)
    place, logged = log_into(study, tool, tmp_path)
    assert logged == [path.stem]
    check(tool, study, place)


def test_what_tensorboard_tells_of_a_trial(study: Path, tmp_path: Path) -> None:
    place, _ = log_into(study, "tensorboard", tmp_path)
    memory, _ = expected(study)
    for trial, told in memory.trials.items():
        events = EventAccumulator(str(place / trial))
        events.Reload()
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        assert told.optimizer.encode() in content
        assert {name for name in told.hyperparameters if name.encode() not in content} == set()
        (status,) = events.Tensors("status/text_summary")
        assert memory.ends[trial][0].encode() in status.tensor_proto.string_val[0]
        assert {each.wall_time for each in events.Scalars("epoch")} == {told.started}


def test_a_tensorboard_that_shows_a_trial_reads_on(study: Path, tmp_path: Path) -> None:
    """The file grows, and ends in the same bytes as one that is written at once."""
    path = evaluations(study)[1]
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]))
    place, _ = log_into(study, "tensorboard", tmp_path)
    shown = EventAccumulator(str(place / path.stem))
    shown.Reload()
    begun = [each.step for each in shown.Scalars("loss")]
    path.write_bytes(whole)
    log_into(study, "tensorboard", tmp_path)
    shown.Reload()
    wanted = [step for name, step in stored(study, path.stem) if name == "loss"]
    assert [each.step for each in shown.Scalars("loss")] == wanted
    assert 0 < len(begun) < len(wanted)
    at_once, _ = log_into(study, "tensorboard", tmp_path / "at once")
    grown, written = (next((runs / path.stem).iterdir()) for runs in (place, at_once))
    assert grown.read_bytes() == written.read_bytes()


def test_what_mlflow_tells_of_a_trial(study: Path, tmp_path: Path) -> None:
    path = evaluations(study)[1]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    place, _ = log_into(study, "mlflow", tmp_path)
    memory, _ = expected(study)
    for run in runs_of_mlflow(place):
        told = memory.trials[run.info.run_name]
        assert run.data.params == {
            "optimizer": told.optimizer,
            "seed": str(told.seed),
            "phase": "evaluation",
            **{name: str(value) for name, value in told.hyperparameters.items()},
        }
        status = memory.ends[told.id][0]
        assert (run.info.status, run.data.tags["status"]) in {("FINISHED", "finished"), ("RUNNING", "interrupted")}
        assert run.data.tags["status"] == status
        assert run.data.tags["workload"] == told.config["workload"]
        assert run.info.start_time == told.started * 1000


def test_a_name_that_mlflow_refuses_is_spelled_in_its_characters(study: Path, tmp_path: Path) -> None:
    path = evaluations(study)[1]
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records.insert(-1, {"kind": "log", "step": 1, "epoch": 1, "größe*2": 1.5, "größe+2": 2.5})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    place, _ = log_into(study, "mlflow", tmp_path)
    found = of_mlflow(place)[path.stem]
    assert {name: value for (name, _), value in found.items() if name.startswith("log/")} == {
        "log/größe:42:2": "1.5",
        "log/größe:43:2": "2.5",
    }


def test_what_wandb_tells_of_a_trial(study: Path, tmp_path: Path) -> None:
    place, _ = log_into(study, "wandb", tmp_path)
    memory, _ = expected(study)
    runs = list(place.glob("wandb/offline-run-*"))
    assert len(runs) == 4
    for run in runs:
        records = records_of_wandb(run)
        about = next(record.run for record in records if record.HasField("run"))
        told = memory.trials[about.display_name]
        assert (about.run_group, about.job_type) == (told.optimizer, "evaluation")
        config = {item.key: json.loads(item.value_json) for item in about.config.update}
        wanted = {**told.config, "optimizer": told.optimizer, "seed": told.seed, **told.hyperparameters}
        assert {name: config.get(name) for name in wanted} == wanted
        assert next(record.exit.exit_code for record in records if record.HasField("exit")) == 0


def test_the_same_trial_is_always_the_same_run_of_wandb(study: Path, tmp_path: Path) -> None:
    def ids(out: Path) -> set[str]:
        place, _ = log_into(study, "wandb", out)
        return {run.name.rpartition("-")[2] for run in place.glob("wandb/offline-run-*")}

    assert ids(tmp_path / "first") == ids(tmp_path / "second")
