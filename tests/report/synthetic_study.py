"""Writes realistic study folders (schema 2) without training anything: seeded, every status, every oddity."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

NINE = ("SGD", "Momentum", "NAG", "AdaGrad", "RMSProp", "AdaDelta", "Adam", "AdaMax", "NAdam")
MORE = (*NINE, "RAdam", "AdamW", "NovoGrad", "Rprop", "Lion")
FINAL_LOSS = (0.32, 0.19, 0.18, 0.17, 0.2, 0.195, 0.21, 0.2, 0.225, 0.2, 0.205, 0.24, 0.5, 0.23)
PAPER = {
    "source": "Li Zhiyuan, Nanjing Agricultural University: 关于深度学习优化算法的分析与实现",
    "setting": "60,000 training images, 5 epochs, batch size 256, learning rate 0.01, one seed, one GPU",
    "rows": {
        "SGD": {"train_loss": 0.317, "train_accuracy": 0.896, "test_accuracy": 0.858, "examples_per_second": 11670.2},
        "AdaGrad": {
            "train_loss": 0.174,
            "train_accuracy": 0.939,
            "test_accuracy": 0.891,
            "examples_per_second": 12690.4,
        },
        "Adam": {"train_loss": 0.214, "train_accuracy": 0.921, "test_accuracy": 0.879, "examples_per_second": 11817.2},
    },
}


@dataclass(frozen=True)
class Plan:
    """What the synthetic study shall look like. ``ends`` gives (label, seed) another status than finished."""

    labels: tuple[str, ...] = NINE
    seeds: int = 3
    epochs: int = 2
    steps_per_epoch: int = 24
    preset: str = "quick"
    ends: dict[tuple[str, int], str] = field(default_factory=dict)
    torn: tuple[str, int] | None = None
    overrides: dict[str, Any] = field(default_factory=dict)


MIXED = Plan(
    ends={
        ("RMSProp", 1): "diverged",
        ("NAdam", 0): "failed",
        ("AdaMax", 2): "interrupted",
        ("NAdam", 2): "not started",
    },
    torn=("AdaMax", 2),
)


def write_study(folder: Path, plan: Plan = MIXED) -> Path:
    """Write the whole study folder and return it."""
    for name in ("trials", "times"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    entries = [
        {"id": f"{index:02d}-seed{seed}-0a1b2c3d", "optimizer": label, "seed": seed, "phase": "evaluation"}
        for index, label in enumerate(plan.labels)
        for seed in range(plan.seeds)
    ]
    for entry in entries:
        _write_trial(folder, plan, entry)
    study = _study(plan, entries) | plan.overrides
    (folder / "study.json").write_text(json.dumps(study, sort_keys=True, ensure_ascii=False), encoding="utf-8")
    return folder


def _write_trial(folder: Path, plan: Plan, entry: dict[str, Any]) -> None:
    status = plan.ends.get((entry["optimizer"], entry["seed"]), "finished")
    if status == "not started":
        return
    records, times = _records(plan, entry, status)
    text = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)
    if plan.torn == (entry["optimizer"], entry["seed"]):
        text = text[:-9]
    (folder / "trials" / f"{entry['id']}.jsonl").write_text(text, encoding="utf-8")
    clock = "".join(json.dumps(record, sort_keys=True) + "\n" for record in times)
    (folder / "times" / f"{entry['id']}.jsonl").write_text(clock, encoding="utf-8")


def _records(plan: Plan, entry: dict[str, Any], status: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    index = plan.labels.index(entry["optimizer"])
    rng = np.random.default_rng([index, entry["seed"]])
    total = plan.epochs * plan.steps_per_epoch
    stop = {"diverged": max(total // 3, 1), "failed": 0, "interrupted": total - plan.steps_per_epoch // 3}.get(
        status, total
    )
    losses = _losses(index, total, rng, explode=stop if status == "diverged" else None)
    records: list[dict[str, Any]] = [{"kind": "trial", "schema": 2, "spec": {"optimizer": entry["optimizer"]}}]
    times: list[dict[str, Any]] = []
    speed = 1300 - 25 * index + rng.normal(0, 12)
    if stop:
        records.append({"kind": "epoch", "epoch": 0, "step": 0} | _validation(2.303, rng))
    for step in range(1, stop + 1):
        epoch = (step - 1) // plan.steps_per_epoch + 1
        records.append({"kind": "step", "step": step, "epoch": epoch, "loss": _json(losses[step - 1])})
        if step % plan.steps_per_epoch == 0:
            part = losses[step - plan.steps_per_epoch : step]
            records.append({"kind": "epoch", "epoch": epoch, "step": step} | _epoch(part, rng))
            examples = 250 * step
            times.append(
                {"kind": "epoch", "epoch": epoch, "step": step, "examples": examples, "train_seconds": examples / speed}
            )
    end = _end(status, stop, plan, rng, float(losses[max(stop - 1, 0)]))
    if end:
        records.append(end)
        times.append(_clock_end(250 * stop, speed))
    return records, times


def _losses(
    index: int, total: int, rng: np.random.Generator, explode: int | None
) -> np.ndarray[Any, np.dtype[np.float64]]:
    floor = FINAL_LOSS[index % len(FINAL_LOSS)]
    progress = np.arange(total) / max(total / (9 + index % 5), 6)
    losses = floor + (2.35 - floor) * np.exp(-np.sqrt(progress * 3)) + rng.normal(0, 0.02, total)
    losses = np.maximum(losses * rng.lognormal(0, 0.06, total), 0.01)
    if explode is not None:
        losses[:explode] *= np.exp(np.linspace(0, 3, explode))
        losses[explode - 1] = math.nan
    return losses


def _validation(loss: float, rng: np.random.Generator) -> dict[str, Any]:
    accuracy = float(np.clip(1 - 0.42 * loss + rng.normal(0, 0.006), 0.1, 0.99))
    return {"validation_loss": float(loss * 1.15 + abs(rng.normal(0, 0.01))), "validation_accuracy": accuracy}


def _epoch(part: np.ndarray[Any, np.dtype[np.float64]], rng: np.random.Generator) -> dict[str, Any]:
    loss = float(np.nanmean(part))
    accuracy = float(np.clip(1 - 0.36 * loss + rng.normal(0, 0.003), 0.1, 0.99))
    return {"train_loss": loss, "train_accuracy": accuracy} | _validation(float(part[-1]), rng)


def _end(status: str, stop: int, plan: Plan, rng: np.random.Generator, last: float) -> dict[str, Any] | None:
    epoch = -(-stop // plan.steps_per_epoch)
    if status == "finished":
        tested = _validation(last + 0.05, rng)
        return {
            "kind": "end", "status": "finished", "step": stop, "epoch": epoch,
            "test_loss": tested["validation_loss"], "test_accuracy": tested["validation_accuracy"],
        }  # fmt: skip
    if status == "diverged":
        reason = f"loss is nan at step {stop}"
        return {"kind": "end", "status": "diverged", "step": stop, "epoch": epoch, "reason": reason}
    if status == "failed":
        trace = 'Traceback:\n  File "trial.py", line 12, in run_trial\nValueError: lr < 0 is <refused>'
        return {
            "kind": "end", "status": "failed", "step": 0, "epoch": 0,
            "error": "ValueError: lr < 0 is <refused>", "traceback": trace,
        }  # fmt: skip
    return None


def _clock_end(examples: int, speed: float) -> dict[str, Any]:
    seconds = examples / speed
    return {
        "kind": "end", "train_seconds": seconds, "examples": examples, "total_seconds": seconds * 1.2,
        "executor": "foreach", "started": "2026-11-21T22:30:00+00:00",
    }  # fmt: skip


def _json(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))


def _options(label: str) -> dict[str, Any]:
    if label in ("Adam", "AdaMax", "NAdam", "RAdam", "AdamW"):
        return {
            "lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01 if label == "AdamW" else 0,
            "amsgrad": False, "maximize": False, "foreach": None, "capturable": False, "differentiable": False,
        }  # fmt: skip
    momentum = 0.9 if label in ("Momentum", "NAG") else 0
    return {"lr": 1.0 if label == "AdaDelta" else 0.01, "momentum": momentum, "weight_decay": 0, "maximize": False}


def _study(plan: Plan, entries: list[dict[str, Any]]) -> dict[str, Any]:
    optimizers = [
        {"label": label, "name": label.lower(), "options": _options(label), "executor": "foreach"}
        for label in plan.labels
    ]
    return {
        "schema": 2,
        "name": f"fashion-mnist {plan.preset}",
        "workload": "fashion-mnist",
        "preset": plan.preset,
        "title": "Nine optimizers on Fashion-MNIST",
        "description": "A small convolutional network learns to tell ten kinds of clothing apart, once with every "
        "optimizer and every seed. Network, data order and initial weights are equal for all optimizers of a seed.",
        "config": {
            "epochs": plan.epochs, "batch_size": 250, "precision": "fp32", "seeds": list(range(plan.seeds)),
            "all_train": False, "steps_per_epoch": plan.steps_per_epoch, "channels_last": True,
        },
        "metric": {"name": "accuracy", "direction": "maximize"},
        "model": {"name": "three convolutions, two linear layers", "parameters": 474670},
        "data": {
            "name": "fashion-mnist", "source": "/usr/share/datasets/fashion-mnist",
            "sha256": {"train-images": "ab" * 32, "train-labels": "cd" * 32},
            "train": 6000, "validation": 1000, "test": 2000, "fallback": None,
        },
        "optimizers": optimizers,
        "seed_purposes": {
            "init": "initial weights", "order": "order of the training examples", "split": "validation split",
        },
        "trials": entries,
        "published": PAPER,
        "versions": {"steepest": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7", "numpy": "2.4.6"},
        "machine": {"cpu": "Some CPU @ 2.90GHz", "cores": 2, "memory_gib": 7.8, "platform": "Linux-6.1-x86_64"},
        "threads": 2,
        "commit": "abc1234",
        "created": "2026-11-21T22:30:00+00:00",
        "command": f"steepest study fashion-mnist --preset {plan.preset}",
    }  # fmt: skip
