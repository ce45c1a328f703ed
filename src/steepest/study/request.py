"""What somebody asks of a study, checked before anything is loaded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from steepest.study import precision
from steepest.study.contestant import Contestant, contestant
from steepest.study.errors import UsageError
from steepest.study.suggest import choices
from steepest.study.workload import Preset, Workload

FOLDER: Final = Path("studies")


@dataclass(frozen=True)
class Request:
    """A workload and what was chosen about it; None means the preset's own number."""

    workload: Workload
    preset_name: str = "quick"
    optimizers: tuple[str, ...] = ()
    epochs_wanted: int | None = None
    seeds_wanted: int | None = None
    precision: str = "fp32"
    all_train: bool = False
    contestants: tuple[Contestant, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.preset_name not in self.workload.presets:
            raise UsageError(choices("preset", self.preset_name, self.workload.presets))
        precision.check(self.precision)
        for name, value in (("epochs", self.epochs_wanted), ("seeds", self.seeds_wanted)):
            if value is not None and value < 1:
                raise UsageError(f"--{name} must be at least 1, not {value}")
        object.__setattr__(self, "contestants", tuple(self._contestants()))

    @property
    def preset(self) -> Preset:
        """The sizes asked for."""
        return self.workload.presets[self.preset_name]

    @property
    def epochs(self) -> int:
        """How often the training set is gone through."""
        return self.epochs_wanted or self.preset.epochs

    @property
    def seeds(self) -> list[int]:
        """The seeds to run."""
        return list(range(self.seeds_wanted or self.preset.seeds))

    def folder(self, fallback: bool) -> Path:
        """Return the default folder; what cannot share a folder with the preset's own study is part of its name."""
        parts = [self.workload.name, self.preset_name]
        parts += [f"{self.epochs}-epochs"] if self.epochs != self.preset.epochs else []
        parts += [self.precision] if self.precision != "fp32" else []
        parts += ["all-train"] if self.all_train else []
        parts += ["on-digits"] if fallback else []
        return FOLDER / "-".join(parts)

    def _contestants(self) -> list[Contestant]:
        found: dict[str, Contestant] = {}
        for text in self.optimizers or self.workload.settings:
            one = contestant(text, self.workload.settings)
            if one.label in found:
                raise UsageError(f"{text!r} asks for {one.label} a second time; give each optimizer once")
            found[one.label] = one
        return list(found.values())
