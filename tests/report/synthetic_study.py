"""Writes realistic study folders (schema 2) without training anything: seeded, every status, every oddity."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

NINE = ("SGD", "Momentum", "NAG", "AdaGrad", "RMSProp", "AdaDelta", "Adam", "AdaMax", "NAdam")
MORE = (*NINE, "RAdam", "AdamW", "NovoGrad", "Rprop", "Lion")
SPACE = (1e-4, 1.0)
FIRST_TUNING_SEED = 1_000_000
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
    evaluations: int = 1
    trials: int = 0
    tuning_seeds: int = 1
    timing_rounds: int = 0
    margin: float = 0.0
    targets: tuple[float, ...] = ()
    reference: str | None = None
    search_ends: dict[tuple[str, int | str], str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    restarts: dict[tuple[str, int], str] = field(default_factory=dict)
    scale: float = 1.0
    overrides: dict[str, Any] = field(default_factory=dict)


TUNED = Plan(
    labels=("SGD", "Momentum", "Adam", "AdamW", "Rprop", "Lion"),
    seeds=8,
    epochs=3,
    evaluations=2,
    trials=8,
    tuning_seeds=2,
    timing_rounds=3,
    margin=0.01,
    targets=(0.55, 0.8, 0.99),
    reference="SGD",
    ends={("Momentum", 3): "diverged", ("AdamW", 5): "failed", ("AdamW", 6): "interrupted"},
    search_ends={("SGD", 7): "diverged", ("Adam", 0): "diverged", ("Lion", 2): "failed"},
    skipped={"Rprop": "NeedsFullBatchError: Rprop needs <the whole> data set"},
    restarts={("Adam", 2): "its state holds a closure, which no checkpoint keeps"},
)
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
    chosen = {label: chosen_point(plan, label) for label in _running(plan)} if plan.trials else {}
    entries = [
        *_entries(plan, "search", [FIRST_TUNING_SEED + number for number in range(plan.tuning_seeds)], chosen),
        *_entries(plan, "evaluation", range(plan.seeds), chosen),
        *_entries(plan, "timing", range(plan.timing_rounds), chosen),
    ]
    for entry in entries:
        {"search": _write_search, "evaluation": _write_trial, "timing": _write_timing}[entry["phase"]](
            folder, plan, entry
        )
    study = _overridden(_study(plan, entries, chosen), plan.overrides)
    (folder / "study.json").write_text(json.dumps(study, sort_keys=True, ensure_ascii=False), encoding="utf-8")
    return folder


def search_score(plan: Plan, label: str, point: int | str, seed: int) -> float:
    """The last validation accuracy of a search trial: a parabola over the decades of the rate, and noise."""
    best = 1.0 if label in ("SGD", "Momentum") else -2.0
    rng = np.random.default_rng([plan.labels.index(label), seed, 99 if point == "defaults" else int(point)])
    distance = math.log10(rate(plan, label, point)) - best
    return float(np.clip(0.9 - 0.06 * distance**2 + rng.normal(0, 0.004), 0.1, 0.99))


def rate(plan: Plan, label: str, point: int | str) -> float:
    """The learning rate of a point; SGD's best one lies beyond the upper end of its range."""
    if point == "defaults":
        return 0.001
    low, high = SPACE
    place = (plan.labels.index(label) * 0.013 + (int(point) * 5 % plan.trials + 0.5) / plan.trials) % 1.0
    return float(f"{low * (high / low) ** place:.3e}")


def chosen_point(plan: Plan, label: str) -> int | str | None:
    """The point with the best mean score, those that did not finish left out."""
    points = [point for point in _points(plan) if (label, point) not in plan.search_ends]
    seeds = [FIRST_TUNING_SEED + number for number in range(plan.tuning_seeds)]
    return max(points, key=lambda point: sum(search_score(plan, label, point, seed) for seed in seeds), default=None)


def _points(plan: Plan) -> list[int | str]:
    return ["defaults", *range(plan.trials)] if plan.trials else []


def _running(plan: Plan) -> list[str]:
    return [label for label in plan.labels if label not in plan.skipped]


def _entries(
    plan: Plan, phase: str, seeds: Iterable[int], chosen: Mapping[str, int | str | None]
) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{plan.labels.index(label):02d}-{infix}seed{seed}-0a1b2c3d",
            "optimizer": label,
            "seed": seed,
            "phase": phase,
            "point": point,
        }
        for label in _running(plan)
        for seed in seeds
        for point in (_points(plan) if phase == "search" else [chosen.get(label)])
        for infix in [{"search": f"search-{point}-", "evaluation": "", "timing": "timing-"}[phase]]
        if phase == "search" or not plan.trials or point is not None
    ]


def _write_lines(path: Path, records: list[dict[str, Any]], cut: int = 0) -> None:
    text = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)
    path.write_text(text[:-cut] if cut else text, encoding="utf-8")


def _write_trial(folder: Path, plan: Plan, entry: dict[str, Any]) -> None:
    status = plan.ends.get((entry["optimizer"], entry["seed"]), "finished")
    if status == "not started":
        return
    records, times = _records(plan, entry, status)
    torn = plan.torn == (entry["optimizer"], entry["seed"])
    _write_lines(folder / "trials" / f"{entry['id']}.jsonl", records, cut=9 if torn else 0)
    _write_lines(folder / "times" / f"{entry['id']}.jsonl", times)


def _write_search(folder: Path, plan: Plan, entry: dict[str, Any]) -> None:
    label, point, seed = entry["optimizer"], entry["point"], entry["seed"]
    status = plan.search_ends.get((label, point), "finished")
    if status == "not started":
        return
    total = plan.epochs * plan.steps_per_epoch
    end = {"kind": "end", "status": status, "epoch": plan.epochs, "step": total, "evaluations": total}
    last = {"validation_accuracy": search_score(plan, label, point, seed), "validation_loss": 0.5}
    records = [
        _header(plan, entry),
        *({"kind": "step", "step": step, "epoch": 1, "loss": 1.0} for step in range(1, total + 1)),
        *([{"kind": "epoch", "epoch": plan.epochs, "step": total} | last] if status == "finished" else []),
        end | ({"reason": f"loss is inf at step {total}"} if status == "diverged" else {}),
    ]
    _write_lines(folder / "trials" / f"{entry['id']}.jsonl", records)
    _write_lines(folder / "times" / f"{entry['id']}.jsonl", [_clock_end(250 * total, 1000.0)])


def _write_timing(folder: Path, plan: Plan, entry: dict[str, Any]) -> None:
    index = plan.labels.index(entry["optimizer"])
    seconds = 0.001 * (1 + 0.1 * index + 0.02 * entry["seed"])
    end = {"kind": "end", "status": "finished", "epoch": 0, "step": 0}
    state = {"state_bytes_per_parameter": 4.0 * (index % 3)}
    _write_lines(folder / "trials" / f"{entry['id']}.jsonl", [_header(plan, entry), end | state])
    _write_lines(
        folder / "times" / f"{entry['id']}.jsonl",
        [{"kind": "end", "executor": "native", "step_seconds": seconds, "steps": 900}],
    )


def _header(plan: Plan, entry: dict[str, Any]) -> dict[str, Any]:
    label, point = entry["optimizer"], entry["point"]
    options = _options(label) | ({} if point is None else {"lr": rate(plan, label, point)})
    return {"kind": "trial", "schema": 3, "spec": {"optimizer": {"label": label, "options": options}}}


def _records(plan: Plan, entry: dict[str, Any], status: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    index = plan.labels.index(entry["optimizer"])
    rng = np.random.default_rng([index, entry["seed"]])
    total = plan.epochs * plan.steps_per_epoch
    stop = {"diverged": max(total // 3, 1), "failed": 0, "interrupted": total - plan.steps_per_epoch // 3}.get(
        status, total
    )
    losses = plan.scale * _losses(index, total, rng, explode=stop if status == "diverged" else None)
    records: list[dict[str, Any]] = [_header(plan, entry)]
    times: list[dict[str, Any]] = []
    speed = 1300 - 25 * index + rng.normal(0, 12)
    every = plan.steps_per_epoch // plan.evaluations
    if stop:
        records.append({"kind": "epoch", "epoch": 0, "step": 0, "evaluations": 0} | _validation(2.303, rng))
    for step in range(1, stop + 1):
        epoch = (step - 1) // plan.steps_per_epoch + 1
        records.append({"kind": "step", "step": step, "epoch": epoch, "loss": _json(losses[step - 1])})
        if step % every == 0:
            place = {"epoch": step / plan.steps_per_epoch if step % plan.steps_per_epoch else epoch, "step": step}
            records.append(
                {"kind": "epoch", "evaluations": 2 * step} | place | _epoch(losses[step - every : step], rng)
            )
            examples = 250 * step
            times.append({"kind": "epoch", "examples": examples, "train_seconds": examples / speed} | place)
    end = _end(status, stop, plan, rng, float(losses[max(stop - 1, 0)]))
    if end:
        records.append(end)
        restart = plan.restarts.get((entry["optimizer"], entry["seed"]))
        times.append(_clock_end(250 * stop, speed) | ({"restarts": restart} if restart else {}))
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
    if status == "timed out":
        return {
            "kind": "end",
            "status": status,
            "step": stop,
            "epoch": epoch,
            "error": "it took longer",
            "traceback": "",
        }
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


def _optimizer(plan: Plan, label: str) -> dict[str, Any]:
    tried = [] if label in plan.skipped else _points(plan)
    return {
        "label": label,
        "name": label.lower(),
        "given": {},
        "options": _options(label),
        "rule_sha256": "12" * 32,
        "executor": "foreach",
        "schedule": "cosine" if plan.trials else "constant",
        "skipped": plan.skipped.get(label),
        "space": {"lr": {"low": SPACE[0], "high": SPACE[1], "scale": "log", "complement": False}} if tried else {},
        "points": [
            {"point": point, "options": {} if point == "defaults" else {"lr": rate(plan, label, point)}}
            for point in tried
        ],
    }


def _overridden(whole: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """An object replaces the entries that it has, an empty one replaces the whole."""
    found = dict(whole)
    for key, value in overrides.items():
        inside = whole.get(key)
        found[key] = _overridden(inside, value) if value and isinstance(value, dict) and inside else value
    return found


def _study(plan: Plan, entries: list[dict[str, Any]], chosen: Mapping[str, int | str | None]) -> dict[str, Any]:
    tuning_seeds = [FIRST_TUNING_SEED + number for number in range(plan.tuning_seeds)] if plan.trials else []
    return {
        "schema": 3,
        "name": f"fashion-mnist {plan.preset}",
        "workload": "fashion-mnist",
        "preset": plan.preset,
        "title": "Nine optimizers on Fashion-MNIST",
        "description": "A small convolutional network learns to tell ten kinds of clothing apart, once with every "
        "optimizer and every seed. Network, data order and initial weights are equal for all optimizers of a seed.",
        "config": {
            "epochs": plan.epochs, "batch_size": 250, "precision": "fp32", "seeds": list(range(plan.seeds)),
            "evaluations": plan.evaluations, "all_train": False,
            "steps_per_epoch": plan.steps_per_epoch, "channels_last": True,
            "task": {
                "source": "fashion-mnist", "preset": plan.preset,
                "sizes": {"train": 6000, "validation": 1000, "test": 2000},
            },
        },
        "metric": {"name": "accuracy", "direction": "maximize", "over": "examples"},
        "model": {
            "name": "three convolutions, two linear layers", "parameters": 474670,
            "sha256": "34" * 32, "code_sha256": "56" * 32,
        },
        "data": {
            "name": "fashion-mnist", "source": "/usr/share/datasets/fashion-mnist",
            "sha256": {"train-images": "ab" * 32, "train-labels": "cd" * 32},
            "train": 6000, "validation": 1000, "test": 2000, "fallback": None,
        },
        "optimizers": [_optimizer(plan, label) for label in plan.labels],
        "protocol": {
            "trials": plan.trials, "tuning_seeds": tuning_seeds, "sampler": "sobol", "searched": ["lr"],
            "schedule": "cosine" if plan.trials else "constant", "reference": plan.reference or plan.labels[0],
            "alpha": 0.05, "margin": plan.margin, "targets": list(plan.targets), "timing_rounds": plan.timing_rounds,
            "extensions": [],
        },
        "code": {},
        "chosen": {
            label: {"point": point, "given": {}, "options": _options(label) | {"lr": rate(plan, label, point)}}
            for label, point in chosen.items()
            if point is not None
        },
        "seed_purposes": {
            "init": "initial weights", "dropout": "random layers",
            "order": "order of the training examples", "split": "validation split",
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
