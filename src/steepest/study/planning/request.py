"""A request for a study, checked before anything is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import torch

from steepest.study.declaration import Declaration, Declared, Workload
from steepest.study.errors import UsageError
from steepest.study.optimizers import schedules
from steepest.study.optimizers.config import OptimizerConfig, parse_config
from steepest.study.planning import matching, search
from steepest.study.planning.extension import Extension
from steepest.study.planning.search import Space
from steepest.study.records.format import STEPS, StudyDocument
from steepest.study.statistics.power import MOST_SEEDS
from steepest.study.statistics.sequential import planned_looks
from steepest.study.suggest import choices
from steepest.study.trials import devices, precision

FOLDER: Final = Path("studies")
FIRST_TUNING_SEED: Final = 1_000_000
"""The first tuning seed of draw 0, and the distance to that of the next draw. Evaluation seeds are other ones."""


@dataclass(frozen=True)
class Request:
    """A workload and what was chosen about it; None means the preset's own number.

    Attributes:
        declared: the workload.
        preset_wanted: its size; None is `quick`.
        optimizers: as `-o` names them; none means the workload's usual ones.
        epochs_wanted, seeds_wanted, trials_wanted: the horizon, the evaluation seeds, the search trials per optimizer.
        steps_wanted: the horizon of a workload or experiment that counts steps.
        horizon_wanted: the horizon of an experiment in its own unit, whatever that is.
        tuning_seeds_wanted: seeds on which every point of a search is tried; None is one.
        timing_rounds: how often every optimizer's step is timed; 0 leaves the pass out.
        sampler_wanted: the sampler of points; None is `sobol`.
        searched_wanted: names of the hyperparameters to search, or `all`; the learning rate without any.
        spaces: the user's own search spaces, by optimizer.
        schedule_wanted: the schedule of every optimizer without one of its own; None is warm-up and cosine for a tuned
            study, else constant.
        reference_wanted: the label of the optimizer that all others are compared with; None is the first.
        extensions: ranges of the extensions by earlier runs on the same folder.
        precision: see `steepest.study.trials.precision`.
        device_wanted: the device as `--device` names it, see `steepest.study.trials.devices.choose`.
        deterministic: whether torch may use deterministic algorithms only.
        behaviour: whether evaluation trials store samples of how the optimizers moved.
        sharpness: whether they store the loss's sharpness at every evaluation.
        all_train: whether validation examples are trained on too.
        threads: torch's threads in every trial; None is torch's current number.
        seed_offset: the first evaluation seed.
        search_seed: the number of the search's draw: of its points and of its tuning seeds.
        more_seeds_wanted: the largest number of evaluation seeds of a sequential test; None tests once.
        match: the kind of equal cost that the main verdicts compare at, see `steepest.study.records.format.Match`.
    """

    declared: Declared
    preset_wanted: str | None = None
    optimizers: tuple[str, ...] = ()
    epochs_wanted: int | None = None
    steps_wanted: int | None = None
    horizon_wanted: int | None = None
    seeds_wanted: int | None = None
    trials_wanted: int | None = None
    tuning_seeds_wanted: int | None = None
    timing_rounds: int = 3
    sampler_wanted: str | None = None
    searched_wanted: tuple[str, ...] = ()
    spaces: Mapping[str, Space] = field(default_factory=dict)
    schedule_wanted: str | None = None
    reference_wanted: str | None = None
    extensions: tuple[Extension, ...] = ()
    precision: str = "fp32"
    device_wanted: str = "cpu"
    deterministic: bool = False
    behaviour: bool = True
    sharpness: bool = False
    all_train: bool = False
    threads: int | None = None
    seed_offset: int = 0
    search_seed: int = 0
    more_seeds_wanted: int | None = None
    match: str = STEPS

    @classmethod
    def of_one_run(
        cls,
        declared: Declared,
        preset: str,
        optimizers: tuple[str, ...],
        *,
        epochs: int | None,
        steps: int | None,
        seed: int = 0,
    ) -> "Request":
        """Return the request of one run with every optimizer: nothing is tuned or timed, on one thread."""
        return cls(
            declared,
            preset,
            optimizers,
            epochs_wanted=epochs,
            steps_wanted=steps,
            seeds_wanted=1,
            trials_wanted=0,
            timing_rounds=0,
            seed_offset=seed,
            threads=1,
        )

    def __post_init__(self) -> None:
        """Check everything that can be checked without data."""
        precision.check(self.precision)
        _ = self.device
        for name, value, least in (
            ("epochs", self.epochs_wanted, 1),
            ("steps", self.steps_wanted, 1),
            ("horizon", self.horizon_wanted, 1),
            ("seeds", self.seeds_wanted, 1),
            ("trials", self.trials_wanted, 0),
            ("tuning-seeds", self.tuning_seeds_wanted, 1),
            ("timing-rounds", self.timing_rounds, 0),
            ("threads", self.threads, 1),
            ("seed-offset", self.seed_offset, 0),
            ("search-seed", self.search_seed, 0),
        ):
            if value is not None and value < least:
                raise UsageError(f"--{name} must be at least {least}, not {value}")
        self._check_kind()
        search.check(self.sampler, self.trials)
        self._check_search_is_wanted()
        self._check_more_seeds()
        matching.check(self.match, self.timing_rounds, self.all_train, self.more_seeds_wanted)
        self._check_seeds_are_fresh()
        if self.trials and self.all_train:
            raise UsageError("--all-train leaves no validation set to search on; add --trials 0, or leave it out")
        self._check_schedule_is_given_or_searched()
        search.check_searched(self.searched_wanted, self.configs)
        twins = [config.origin.twin for config in self.configs if config.origin.twin]
        search.check_names(self.spaces, dict.fromkeys([*(config.source for config in self.configs), *twins]))
        for source, space in self.spaces.items():
            its = [config for config in self.configs if self._space_source(config) == source]
            search.check_schedules(space, its)
        self._check_given_once()
        _ = self.reference

    def _check_schedule_is_given_or_searched(self) -> None:
        """Refuse to search an option that `--schedule` gives."""
        twice = [name for name in self.searched_wanted if name in schedules.read(self._asked_schedule).options]
        if twice:
            raise UsageError(
                f"--schedule {self._asked_schedule} gives {', '.join(twice)}, which --search is to search; give one of "
                "the two"
            )

    def _check_kind(self) -> None:
        """Refuse options that the declaration has no use for."""
        if self.epochs_wanted and self.steps_wanted:
            raise UsageError("--epochs and --steps both give the length of a trial; leave out one of the two")
        if isinstance(self.workload, Workload):
            unit = self.workload.unit
            other = {"epochs": self.steps_wanted, "steps": self.epochs_wanted}[unit]
            if other:
                raise UsageError(f"{self.declared.source} counts {unit}; give its length as --{unit}")
        elif self.all_train:
            raise UsageError(f"--all-train is for workloads; {self.declared.source} divides its data itself")
        elif self.sharpness:
            raise UsageError(
                f"--sharpness is for workloads, whose loss is declared; {self.declared.source} measures it itself: "
                "run.log(sharpness=steepest.study.sharpness(loss, model.parameters()))"
            )

    def _check_search_is_wanted(self) -> None:
        """Refuse options of a search if there is none."""
        options = {
            "--space": self.spaces,
            "--search": self.searched_wanted,
            "--tuning-seeds": self.tuning_seeds_wanted,
            "--sampler": self.sampler_wanted,
            "--search-seed": self.search_seed,
        }
        given = [name for name, value in options.items() if value]
        if given and not self.trials:
            usual = "" if self.trials_wanted == 0 else f", which is the usual number of {self.declared.name}"
            have = "has" if len(given) == 1 else "have"
            raise UsageError(
                f"{', '.join(given)} {have} no effect with --trials 0{usual}, as nothing is searched; leave it out, or "
                "search with, say, --trials 16"
            )

    def _check_more_seeds(self) -> None:
        """Refuse a maximum of seeds that adds none, or more than a study should have."""
        most, first = self.more_seeds_wanted, self._seed_count
        if most is not None and not first < most <= MOST_SEEDS:
            raise UsageError(
                f"--more-seeds {most} is the largest number of seeds that a study with {first} at first may grow to; "
                f"give a number from {first + 1} to {MOST_SEEDS}"
            )

    def _check_seeds_are_fresh(self) -> None:
        """Refuse evaluation seeds that are tuning seeds too."""
        evaluated, tuned = self.all_seeds, self.search_seeds
        if self.trials and evaluated[0] <= tuned[-1] and tuned[0] <= evaluated[-1]:
            raise UsageError(
                f"evaluation seeds {_ends(evaluated)} and tuning seeds {_ends(tuned)} overlap, and a seed that chose a "
                "setting cannot judge it; give another --seed-offset or --search-seed"
            )

    def _check_given_once(self) -> None:
        """Refuse a hyperparameter that is given both in an optimizer's brackets and in the user's search space."""
        for config in self.configs:
            twice = [name for name in self.own_space(config) if name in config.fixed]
            if twice:
                raise UsageError(
                    f"{config.label} is given {', '.join(twice)} in brackets and a space to search it in by --space; "
                    "give one of the two"
                )
        if self.searched_wanted and all(self.own_space(config) for config in self.configs):
            raise UsageError(
                "--search has no effect: --space says for every optimizer what is searched; leave out one of the two"
            )

    @property
    def preset_name(self) -> str:
        """The workload's size."""
        return self.preset_wanted or "quick"

    @property
    def sampler(self) -> str:
        """The sampler of points."""
        return self.sampler_wanted or "sobol"

    @cached_property
    def workload(self) -> Declaration:
        """The workload or experiment at the requested size."""
        return self.declared(self.preset_name)

    @cached_property
    def device(self) -> torch.device:
        """The device to train on."""
        return devices.choose(self.device_wanted)

    @property
    def epochs(self) -> int | None:
        """The length of a trial in epochs or steps; None for the length that an experiment has itself."""
        return self.epochs_wanted or self.steps_wanted or self.horizon_wanted or self._usual_epochs

    @property
    def _usual_epochs(self) -> int | None:
        return self.workload.length if isinstance(self.workload, Workload) else None

    @property
    def seeds(self) -> list[int]:
        """The evaluation seeds; those of the first look where a sequential test may add some."""
        return list(range(self.seed_offset, self.seed_offset + self._seed_count))

    @property
    def all_seeds(self) -> list[int]:
        """The evaluation seeds up to the last look."""
        return list(range(self.seed_offset, self.seed_offset + (self.more_seeds_wanted or self._seed_count)))

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of seeds after which a sequential test looks; none without one."""
        return planned_looks(self._seed_count, self.more_seeds_wanted) if self.more_seeds_wanted else ()

    @property
    def _seed_count(self) -> int:
        return self.seeds_wanted or self.workload.seeds

    @property
    def search_seeds(self) -> list[int]:
        """The tuning seeds, none of which is an evaluation seed. Every draw of the search has its own."""
        first = FIRST_TUNING_SEED * (1 + self.search_seed)
        return list(range(first, first + (self.tuning_seeds_wanted or 1)))

    @property
    def trials(self) -> int:
        """The number of search trials of every optimizer."""
        return self.workload.trials if self.trials_wanted is None else self.trials_wanted

    @property
    def searched(self) -> tuple[str, ...]:
        """The hyperparameters that are searched in their declared ranges."""
        return self.searched_wanted or ("lr",)

    @property
    def schedule(self) -> str:
        """The schedule of the learning rate, for every optimizer without one of its own."""
        return str(schedules.read(self._asked_schedule))

    @property
    def _asked_schedule(self) -> str:
        usual = schedules.TUNED if self.trials else schedules.CONSTANT
        return usual if self.schedule_wanted is None else self.schedule_wanted

    @property
    def thread_count(self) -> int:
        """Torch's threads in every trial."""
        return self.threads or torch.get_num_threads()

    @cached_property
    def configs(self) -> tuple[OptimizerConfig, ...]:
        """The optimizers, in the requested order."""
        configs: dict[str, OptimizerConfig] = {}
        for text in self.optimizers or self.workload.settings:
            config = parse_config(text, self.workload.settings, self._asked_schedule)
            if config.label in configs:
                raise UsageError(
                    f"{text!r} is {config.label}, and so is {configs[config.label].source!r}; give each label once"
                )
            configs[config.label] = config
        if not configs:
            raise UsageError(f"{self.declared.source} has no optimizers of its own; name some: -o adamw -o sgd")
        return tuple(configs.values())

    @property
    def reference(self) -> str | None:
        """The label of the requested reference optimizer, if any."""
        labels = [config.label for config in self.configs]
        wanted = self.reference_wanted
        known = {label.lower(): label for label in labels}
        if wanted is not None and wanted.lower() not in known:
            raise UsageError(choices("reference", wanted, labels))
        return None if wanted is None else known[wanted.lower()]

    def own_space(self, config: OptimizerConfig) -> Space:
        """Return the user's search space for an optimizer, else its twin's, else an empty one."""
        return self.spaces.get(self._space_source(config), {})

    def _space_source(self, config: OptimizerConfig) -> str:
        return config.source if config.source in self.spaces else config.origin.twin or ""

    def continuing(self, document: StudyDocument | None, threads: int) -> "Request":
        """Return the request with the decisions of a folder's study: its threads and its extensions.

        `threads` is for a folder that has none yet.
        """
        if document is None:
            return replace(self, threads=self.threads or threads)
        return replace(self, threads=self.threads or document.threads, extensions=document.protocol.extensions)

    def extended(self, extension: Extension) -> "Request":
        """Return the request with one more extension of the search."""
        if not extension:
            raise UsageError("no best learning rate lies on the edge of its range, so there is nothing to extend")
        return replace(self, extensions=(*self.extensions, extension))

    def folder(self, fallback: bool, name: str | None = None) -> Path:
        """Return the default folder, of the workload or of several under a name that they share.

        Choices that differ from the preset's own study are part of its name.
        """
        parts = [name or self.declared.name, self.preset_name]
        parts += [f"{self.epochs}-epochs"] if self.epochs_wanted and self.epochs != self._usual_epochs else []
        parts += [f"{self.epochs}-steps"] if self.steps_wanted and self.epochs != self._usual_epochs else []
        parts += [f"{self.trials}-trials"] if self.trials != self.workload.trials else []
        parts += [f"seeds-from-{self.seed_offset}"] if self.seed_offset else []
        parts += [f"to-{self.more_seeds_wanted}-seeds"] if self.more_seeds_wanted else []
        parts += [f"search-{self.search_seed}"] if self.search_seed else []
        parts += [f"equal-{self.match}"] if self.match != STEPS else []
        parts += [self.precision] if self.precision != "fp32" else []
        parts += [self.device.type] if self.device.type != "cpu" else []
        parts += ["deterministic"] if self.deterministic else []
        parts += ["sharpness"] if self.sharpness else []
        parts += [] if self.behaviour else ["no-behaviour"]
        parts += ["all-train"] if self.all_train else []
        parts += ["on-digits"] if fallback else []
        return FOLDER / "-".join(parts)


def _ends(seeds: Sequence[int]) -> str:
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
