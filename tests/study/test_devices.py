"""Devices and precision: what is asked of them is checked, and reaches the processes that train. No GPU is needed."""

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from steepest.study import seeds
from steepest.study.errors import UsageError
from steepest.study.planning.merge import merge
from steepest.study.planning.plan import Plan
from steepest.study.records.format import Device
from steepest.study.running.processes import Processes
from steepest.study.running.store import StudyFolder
from steepest.study.trials import devices
from steepest.study.trials.spec import TrialSpec

from .small import planned, planned_experiment, small
from .support import dropped, evaluations, events_of, record_bytes, run_with_checkpoints, updates_of

EXPERIMENTS = Path(__file__).with_name("experiments.py")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch find two devices of the kind cuda, which nothing can be computed on."""
    kind = torch.device("cuda")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: kind)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.delenv(devices.VISIBLE, raising=False)


def test_a_device_that_is_not_here_is_told() -> None:
    assert devices.choose("cpu").type == devices.choose("auto").type == "cpu"
    for name in ("cuda", "cuda:7", "mps", "tpu", ""):
        with pytest.raises(
            UsageError, match=rf"there is no device '{name}' here; torch {torch.__version__[:4]}.* finds cpu"
        ):
            devices.choose(name)
    with pytest.raises(UsageError, match="there is no device 'cuda' here"):
        planned(small(), device_wanted="cuda")


def test_devices_that_are_here_are_chosen(two_gpus: None) -> None:
    assert devices.names() == ["cpu", "cuda:0", "cuda:1"]
    assert [str(devices.choose(name)) for name in ("cuda", "cuda:1", "auto", "cpu")] == [
        "cuda",
        "cuda:1",
        "cuda",
        "cpu",
    ]
    with pytest.raises(UsageError, match="no device 'cuda:2' here"):
        devices.choose("cuda:2")


@pytest.mark.parametrize(
    ("device", "known", "expected"),
    [
        ("cuda", "", ["0", "1"]),
        ("cuda:1", "", ["1"]),
        ("cuda", "5,GPU-7", ["5", "GPU-7"]),
        ("cuda:1", "5,GPU-7", ["GPU-7"]),
    ],
)
def test_worker_processes_take_turns_on_devices(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch, device: str, known: str, expected: list[str]
) -> None:
    monkeypatch.setenv(devices.VISIBLE, known)
    found = devices.environments(torch.device(device))
    assert [one[devices.VISIBLE] for one in found] == expected
    assert devices.environments(torch.device("cpu"), deterministic=True) == [devices.WORKSPACE]


def test_a_worker_sees_its_device(tmp_path: Path) -> None:
    plan, folder = planned_experiment(f"{EXPERIMENTS}:visible", "sgd", seeds_wanted=4), StudyFolder(tmp_path)
    variables = [{devices.VISIBLE: "3"}, {devices.VISIBLE: "8"}]
    with folder.writing(), Processes(folder, 2, environments=variables) as workers:
        for spec in evaluations(plan):
            workers.submit(spec)
        events = [update.event.record for update in updates_of(workers) if update.event]
    assert {record["visible"] for record in events if record["kind"] == "log"} == {3.0, 8.0}
    assert devices.VISIBLE not in os.environ


def test_another_device_is_another_study(tmp_path: Path) -> None:
    plan = planned(small())
    gpu = Device(kind="cuda", name="GPU", driver="1.2")
    other = dataclasses.replace(plan.document, config=dataclasses.replace(plan.document.config, device=gpu))
    with pytest.raises(UsageError, match=r"config.device is None and .*'kind': 'cuda', 'name': 'GPU'"):
        merge(plan.document, other, (), tmp_path)
    newer = dataclasses.replace(gpu, driver="1.3")
    newest = dataclasses.replace(plan.document, config=dataclasses.replace(plan.document.config, device=newer))
    with pytest.raises(UsageError, match=r"config.device.driver is '1.2' and '1.3'"):
        merge(other, newest, (), tmp_path)


def test_the_device_is_part_of_a_trials_identity() -> None:
    spec = evaluations(planned(small()))[0]
    assert {"device", "deterministic"}.isdisjoint(spec.document())  # so that trials on the CPU keep their names
    for change in ({"device": "cuda"}, {"deterministic": True}):
        changed = dataclasses.replace(spec, **change)
        assert changed.id != spec.id
        assert TrialSpec.read(json.loads(json.dumps(changed.document()))) == changed


class FakeModule(SimpleNamespace):
    """The generator of a device: a number that every draw raises."""

    def get_rng_state(self) -> torch.Tensor:
        return torch.tensor([self.drawn])

    def set_rng_state(self, state: torch.Tensor) -> None:
        self.drawn = int(state)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> FakeModule:
    module = FakeModule(drawn=0)
    monkeypatch.setattr(torch, "get_device_module", lambda device=None: module)
    whole = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": whole() if str(device) == "cpu" else _Seeded())
    return module


class _Seeded:
    def manual_seed(self, seed: int) -> "_Seeded":
        self.seed = seed % 1000
        return self

    def get_state(self) -> torch.Tensor:
        return torch.tensor([self.seed])


def test_a_devices_generator_is_part_of_every_stream(generator: FakeModule) -> None:
    generator.drawn = 7
    with seeds.on(torch.device("cuda")):
        stream, noise = seeds.GlobalStream("dropout", 0), seeds.Noise(0)
        with stream.active():
            first = generator.drawn
            generator.drawn += 1
            noise.begin()
            assert generator.drawn not in (first, first + 1)
            generator.drawn += 100
            noise.end()
            assert generator.drawn == first + 1
        assert generator.drawn == 7
        assert int(stream.position["device"]) == first + 1
        with stream.active():
            assert generator.drawn == first + 1
    assert "device" not in seeds.GlobalStream("dropout", 0).position


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adamw[lr=0.01]", "torch.optim:SGD[lr=0.1,momentum=0.9]"])
def test_half_precision_trains_and_goes_on(precision: str, optimizer: str, tmp_path: Path) -> None:
    plan, folder = planned(small(horizon=4), optimizer, precision=precision), StudyFolder(tmp_path)
    spec = evaluations(plan)[0]
    with folder.writing():
        dropped(spec, plan.task, folder, 7)
        first, *_ = run_with_checkpoints(spec, plan.task, folder)
    assert first.record["kind"] == "resumed"
    assert record_bytes(folder, spec) == record_bytes(events_of(spec, plan.task))
    full = planned(small(horizon=4), optimizer)
    losses = [
        [event.record["loss"] for event in events_of(evaluations(one)[0], one.task) if event.record["kind"] == "step"]
        for one in (plan, full)
    ]
    assert losses[0] != losses[1]
    assert losses[0][-1] == pytest.approx(losses[1][-1], rel=0.1)
    assert losses[0][-1] < losses[0][0]


def test_a_loss_that_is_evaluated_by_the_optimizer_cannot_be_scaled() -> None:
    with pytest.raises(UsageError, match="fp16 scales the loss, and an optimizer that evaluates it itself does"):
        planned(small(), "lbfgs", precision="fp16")


def test_an_experiment_that_does_not_look_at_the_precision_is_told() -> None:
    def plan(name: str, precision: str) -> Plan:
        return planned_experiment(f"{EXPERIMENTS}:{name}", "sgd", precision=precision)

    with pytest.raises(UsageError, match=r"--precision bf16 has no effect: .* with run.autocast\(\)"):
        plan("by_steps", "bf16")
    with pytest.raises(UsageError, match=r"--precision fp16 needs a scaled loss: run.scaler.scale\(loss\).backward"):
        plan("by_epochs", "fp16")
    assert plan("by_epochs", "bf16").document.config.precision == "bf16"


def test_deterministic_algorithms_are_asked_for_in_trials_only() -> None:
    seen: list[bool] = []

    def loss(outputs: Any, targets: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return torch.nn.functional.cross_entropy(outputs, targets)

    plan = planned(small(loss=loss), deterministic=True)
    seen.clear()
    events = events_of(evaluations(plan)[0], plan.task)
    assert set(seen) == {True}
    assert not torch.are_deterministic_algorithms_enabled()
    assert events[-1].timing is not None
    assert "settings" not in events[-1].timing
    assert plan.document.config.deterministic
