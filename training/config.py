"""Typed configuration of a training run, read from TOML; unknown keys are refused."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from lprnet.charset import DEFAULT_CHARSET, Charset
from lprnet.errors import LprnetError
from lprnet.plate_spec import PlateSpec
from training.augment import Augmentation

CONFIGS = Path(__file__).parent / "configs"


_ANY: Final = math.inf
_SHARE: Final = (0, 1)
_SOME: Final = (1, _ANY)
_RANGES: Final[dict[str, tuple[float, float]]] = {
    "seed": (0, 2**63 - 1),
    "data.real_share": _SHARE,
    "data.balance": _SHARE,
    "data.trusted_boost": (0.01, _ANY),
    "data.synthetic_photography": _SHARE,
    "data.synthetic_plates": _SOME,
    "data.synthetic_generations": _SOME,
    "data.synthetic_refresh_steps": _SOME,
    **{f"augment.{f.name}": _SHARE for f in dataclasses.fields(Augmentation)},
    "augment.rotation_deg": (0, 45),
    "augment.margin_tight": (-0.4, 4),
    "augment.margin_loose": (-0.4, 4),
    "optim.steps": _SOME,
    "optim.batch": _SOME,
    "optim.learning_rate": (0, _ANY),
    "optim.weight_decay": (0, _ANY),
    "optim.warmup_steps": (0, _ANY),
    "optim.decay_share": _SHARE,
    "optim.clip_norm": (1e-6, _ANY),
    "optim.ema_decay": _SHARE,
    "optim.frame_loss": (0, _ANY),
    "optim.frame_loss_steps": (0, _ANY),
    "optim.frame_loss_floor": (0, _ANY),
    "optim.label_smoothing": _SHARE,
    "optim.threads": (0, 1024),
    "optim.workers": (0, 1024),
    "optim.early_stop_evaluations": (0, _ANY),
    "log.evaluate_every": _SOME,
    "log.checkpoint_every": _SOME,
}
"""Bounds of every number of the configuration, both included."""


class ConfigError(LprnetError):
    """A configuration with an unknown key, a wrong type or values that contradict."""


@dataclass(frozen=True)
class NetworkSection:
    """Which network; `options` are fields of `SmallConfig`."""

    name: str = "small"
    options: dict[str, Any] = field(default_factory=dict)
    characters: str = ""  # alphabet in order; empty = 0-9 A-Z


@dataclass(frozen=True)
class DataSection:
    """What is learnt from and what is measured on."""

    train: list[str] = field(default_factory=list)  # folders of labelled sets
    validation: list[str] = field(default_factory=list)  # never learnt from
    exclude: list[str] = field(default_factory=list)  # TSV lists of crops left out of `train`
    real_share: float = 0.5  # of each batch, 0..1; the rest is synthetic
    balance: float = 0.5  # 0 = by size, 1 = every (source, region) group alike
    trusted_boost: float = 1.5  # weight of given labels over pseudo-labels
    synthetic_regions: list[str] = field(default_factory=list)  # empty = generator's own mix
    synthetic_photography: float = 0.3  # share that also passes the generator's own camera, 0..1
    synthetic_plates: int = 20_000  # plates of one generation on disk
    synthetic_generations: int = 3  # generations drawn from at a time
    synthetic_refresh_steps: int = 1_000  # steps after which the next generation enters
    cache: str = "~/.cache/lprnet"  # re-makeable


@dataclass(frozen=True)
class OptimSection:
    """How the weights move."""

    steps: int = 20_000
    batch: int = 128  # crops per step and process
    learning_rate: float = 2e-3  # peak
    weight_decay: float = 0.02
    warmup_steps: int = 500
    decay_share: float = 1.0  # share of the steps, at the end, that follows the cosine to zero
    clip_norm: float = 2.0  # gradient norm; larger ones are scaled down
    ema_decay: float = 0.999
    frame_loss: float = 1.0  # weight of the framewise loss on synthetic plates at the start
    frame_loss_steps: int = 4_000  # steps over which that weight falls to `frame_loss_floor`
    frame_loss_floor: float = 0.1
    label_smoothing: float = 0.0  # of the framewise loss, 0..1
    amp: str = "auto"  # "bf16", "off" or "auto": bf16 where the hardware multiplies it
    compile: bool = False  # torch.compile the network
    threads: int = 0  # CPU threads of the network; 0 = torch's own choice
    workers: int = 1  # data processes
    freeze: list[str] = field(default_factory=list)  # name prefixes of parameters held fast
    early_stop_evaluations: int = 0  # stop after so many without a better score; 0 = never


@dataclass(frozen=True)
class LogSection:
    """What is written and when."""

    evaluate_every: int = 1_000  # steps
    checkpoint_every: int = 250  # steps
    tensorboard: bool = True


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. `seed` fixes data order, augmentation and initial weights."""

    seed: int = 1
    network: NetworkSection = field(default_factory=NetworkSection)
    data: DataSection = field(default_factory=DataSection)
    augment: Augmentation = field(default_factory=Augmentation)
    optim: OptimSection = field(default_factory=OptimSection)
    log: LogSection = field(default_factory=LogSection)

    def __post_init__(self) -> None:
        for path, (low, high) in _RANGES.items():
            _between(path, attrgetter(path)(self), low, high)
        if self.augment.margin_tight > self.augment.margin_loose:
            raise ConfigError("augment.margin_tight must not be above augment.margin_loose")
        if self.optim.amp not in ("auto", "bf16", "off"):
            raise ConfigError(f"optim.amp must be auto, bf16 or off, not {self.optim.amp!r}")
        if self.data.real_share > 0 and not self.data.train:
            raise ConfigError(
                "data.train is empty: name labelled sets (--train DIR...) or set data.real_share=0"
            )

    def spec(self) -> PlateSpec:
        """Plate spec of the network that this run trains.

        Raises:
            ConfigError: when `network.characters` has characters that cannot be learnt.
            SpecError: when it is no charset.
        """
        from training.network import network_spec

        steps, rows = network_spec(self.network.name)
        characters = self.network.characters
        charset = Charset.from_text(characters) if characters else DEFAULT_CHARSET
        never = charset.never_in_labels()
        if never:
            raise ConfigError(
                f"network.characters: no label holds {' '.join(never)}, since labels are read in "
                "upper case, without diacritics and separators: leave them out"
            )
        return PlateSpec(charset=charset, time_steps=steps, rows=rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Read nested dictionaries. Raises ConfigError for unknown keys and wrong types."""
        made: TrainConfig = _build(cls, values, "")
        return made

    @classmethod
    def load(
        cls,
        name: str,
        overrides: list[str] | None = None,
        *,
        train: list[str] | None = None,
        validation: list[str] | None = None,
    ) -> TrainConfig:
        """Read a config file and lay `section.key=value` overrides on top.

        Args:
            name: path of a TOML file, or the name of one in training/configs/.
            overrides: e.g. ``["optim.steps=100", "data.balance=0.7"]``, TOML values.
            train, validation: labelled sets that take the place of the file's.

        Raises:
            ConfigError: for a missing file, bad TOML, unknown keys or wrong types.
        """
        path = Path(name) if name.endswith(".toml") else CONFIGS / f"{name}.toml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.toml")))
            raise ConfigError(f"no config {name!r}: name a TOML file or one of {known}")
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path.name} is not UTF-8 text: {error.reason}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path.name} is not valid TOML: {error}") from error
        for override in overrides or []:
            _override(values, override)
        for key, sets in (("train", train), ("validation", validation)):
            if sets is not None:
                _table(values, "data", f"--{key}")[key] = list(sets)
        return cls.from_dict(values)


def _between(name: str, value: float, low: float, high: float) -> None:
    if low <= value <= high and math.isfinite(value):
        return
    bounds = f"at least {low}" if high == _ANY else f"within {low}..{high}"
    raise ConfigError(f"{name} must be {bounds}, not {value}")


def _table(values: dict[str, Any], name: str, what: str) -> dict[str, Any]:
    """The table `name` of a config, made if there is none."""
    found = values.setdefault(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{what}: {name} is no section, it is set to {found!r}")
    return found


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override!r}: write section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    *sections, last = key.strip().split(".")
    target = values
    for section in sections:
        target = _table(target, section, f"--set {override!r}")
    target[last] = value


def _build(cls: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"{where or 'config'} must be a table, not {values!r}")
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = set(values) - known
    if unknown:
        place = f" in [{where}]" if where else ""
        raise ConfigError(f"unknown key(s) {sorted(unknown)}{place}: known are {sorted(known)}")
    made: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{where}.{name}" if where else name
        hint = hints[name]
        made[name] = (
            _build(hint, value, path)
            if dataclasses.is_dataclass(hint)
            else _typed(hint, value, path)
        )
    return cls(**made)


def _typed(hint: Any, value: Any, path: str) -> Any:
    base = typing.get_origin(hint) or hint
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wrong_bool = isinstance(value, bool) and base is not bool
    if not isinstance(base, type) or isinstance(base, types.UnionType):
        raise TypeError(f"config field {path} has an unsupported type {hint}")
    if wrong_bool or not isinstance(value, base):
        raise ConfigError(f"{path} must be {_wanted(hint)}, not {value!r}{_quoting(hint, path)}")
    if base is list:
        _check_entries(hint, value, path)
    return value


def _check_entries(hint: Any, values: Any, path: str) -> None:
    (inner,) = typing.get_args(hint)
    for entry in values:
        if not isinstance(entry, inner):
            raise ConfigError(
                f"{path} must be {_wanted(hint)}, and {entry!r} is no {inner.__name__}"
            )


def _wanted(hint: Any) -> str:
    """A type as messages name it."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        return f'a list of {inner[0].__name__}, as ["...", "..."]'
    return str((typing.get_origin(hint) or hint).__name__)


def _quoting(hint: Any, path: str) -> str:
    """How to write text that looks like a number; the shell takes one pair of quotes away."""
    return f""": put it in quotes twice, --set '{path}="TEXT"'""" if hint is str else ""
