"""Configuration: frozen dataclasses are the truth; ``a.b=c`` overrides and mappings change them, strictly."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mmnar.errors import ConfigError
from mmnar.synonyms import nearest_key

__all__ = [
    "HideConfig",
    "RectifierConfig",
    "RowsConfig",
    "RunConfig",
    "SplitConfig",
    "TrainConfig",
    "keys_of",
    "meanings",
    "override",
    "parse_overrides",
    "to_plain",
]

C = TypeVar("C")


def _at_least(key: str, value: float, least: int) -> None:
    """
    Raises:
        ConfigError: Lower, or no finite number.
    """
    if not least <= value < math.inf:
        raise ConfigError(f"'{key}'", f"a finite number of {least} or more", str(value), "correct it")


@dataclass(frozen=True)
class TrainConfig:
    """How a deep model is trained. One loop, one configuration, for all of them.

    Args:
        max_epochs: Passes over the training fold.
        min_steps: Small folds get more passes, until this many steps are made; in a phase of fixed length a share.
        batch_size: Patients per step.
        lr: Peak learning rate of AdamW.
        schedule: The rate falls to zero as a ``cosine``, or stays ``constant``.
        warmup: Share of all steps in which the rate rises linearly.
        weight_decay: Of AdamW.
        patience: Epochs, of ``max_epochs``, without a better tune log loss before stopping; a small fold, which gets
            more epochs, gets more patience likewise.
        clip_norm: Gradient norm bound; 0 = none.
        label_loss: ``bce``, or ``focal`` (not a proper score: a run fits Platt's line to its risks).
        focal_gamma, focal_alpha: Of the focal loss; gamma = 0 and alpha < 0 equal bce to the bit.
        task_weights: λ_t by task name (defaults: the CRL-MMNAR paper's C.2.2); a task not named here has weight 1.
        checkpoint_seconds: Least time between two checkpoints.
        accelerator, devices, precision: Passed to Lightning Fabric; ``auto`` precision is 32-bit on a CPU and
            bf16 mixed on a GPU.
    """

    max_epochs: int = 12
    min_steps: int = 600
    batch_size: int = 256
    lr: float = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    weight_decay: float = 1e-2
    patience: int = 6
    clip_norm: float = 1.0
    label_loss: Literal["bce", "focal"] = "bce"
    focal_gamma: float = 2.0
    focal_alpha: float = -1.0
    task_weights: dict[str, float] = field(
        default_factory=lambda: {"readmission": 1.2, "icu_admission": 1.0, "mortality": 1.5}
    )
    checkpoint_seconds: float = 10.0
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "auto"

    def __post_init__(self) -> None:
        for key in ("max_epochs", "batch_size", "devices"):
            _at_least(f"train.{key}", getattr(self, key), 1)
        for key in ("min_steps", "patience", "lr", "weight_decay", "clip_norm", "checkpoint_seconds", "warmup"):
            _at_least(f"train.{key}", getattr(self, key), 0)
        if self.warmup > 1:
            raise ConfigError("train.warmup", "a share of the steps, 0 … 1", str(self.warmup), "lower it")


@dataclass(frozen=True)
class SplitConfig:
    """Which subjects play which role (``mmnar.Split``).

    Args:
        seed: Of the assignment of subjects; another one is another split.
        tune: Share of the subjects, those scored apart, who stop training early and choose settings.
        test: Share of the subjects who are scored, where ``folds`` is 1; 0 = none, the run is judged out of fold.
        fold: Which of the ``folds`` is the test fold, from 0.
        folds: Of the cross-validation by subject; 1 = one split by ``test``.
        by: Attribute of the store (a site, a set, a year) whose value ``held_out`` is the test fold.
        held_out: Values of that attribute, separated by commas.
    """

    seed: int = 0
    tune: float = 0.15
    test: float = 0.25
    fold: int = 0
    folds: int = 1
    by: str = ""
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class RectifierConfig:
    """The offset per observation pattern that is fitted after training.

    Args:
        rule: ``lattice`` (hierarchical shrinkage), ``threshold`` (the paper's) or ``none``.
        kappas: Candidates for κ of the threshold rule, chosen among by the Brier score; one fixes it.
        prior_no_effect: p0 of the lattice: prior probability that a scale of pattern offsets is zero.
    """

    rule: Literal["lattice", "threshold", "none"] = "lattice"
    kappas: tuple[float, ...] = (0.0, 0.01, 0.02, 0.03, 0.05)
    prior_no_effect: float = 0.85

    def __post_init__(self) -> None:
        if not 0 < self.prior_no_effect < 1:
            raise ConfigError("rectifier.prior_no_effect", "between 0 and 1", str(self.prior_no_effect), "correct it")


@dataclass(frozen=True)
class HideConfig:
    """A modality hidden from a share of the patients who have it, before anything is fitted (``dataset.regimes``).

    Args:
        modality: Which; "" = none.
        share: Of the patients who have it, 0 to 1. Who is hidden at one share is hidden at every larger one.
        where: From whom: ``train`` (all but the test fold), ``test``, or ``both``, each by itself.
        which: Who loses it first: anybody (``random``, by the hash of the patient), the ``severity`` of ``by``, or whom
            another site leaves without it (``law``).
        by: Severity: a measurement MODALITY.FEATURE, or an attribute. Law: an attribute that it tells apart, or "".
        first: Severity: ``highest`` or ``lowest`` of a measurement; of an attribute, its values in order.
        law: Path of another store, or ATTRIBUTE=VALUE: patients of this store who are not tested.
        seed: Of the hash.
    """

    modality: str = ""
    share: float = 0.0
    where: Literal["train", "test", "both"] = "both"
    which: Literal["random", "severity", "law"] = "random"
    by: str = ""
    first: tuple[str, ...] = ("highest",)
    law: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError("hide.share", "a share, 0 … 1", str(self.share), "correct it")
        if self.share and not self.modality:
            raise ConfigError("hide.share", "a modality to hide", "none", "say which with hide.modality")
        if self.which == "severity" and not self.by:
            raise ConfigError("hide.which=severity", "what it is read from", "nothing", "say so with hide.by")
        if self.which == "law" and not self.law:
            raise ConfigError("hide.which=law", "a store, or ATTRIBUTE=VALUE", "none", "say which with hide.law")


@dataclass(frozen=True)
class RowsConfig:
    """Which samples train and which are tested (``dataset.regimes``); others play no role at all.

    Args:
        modalities: A sample that has all of these is paired.
        train: Who trains (all but the test fold): ``all``, the ``paired``, or these and a share, 0 to 1, of the others.
            Who is there at one share is there at every larger one.
        test: Who is tested, likewise.
        seed: Of the hash of the patient.
    """

    modalities: tuple[str, ...] = ()
    train: str = "all"
    test: str = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            share = self.share(part)
            if not 0 <= share <= 1:
                word = getattr(self, part)
                raise ConfigError(f"rows.{part}", "all, paired, or a share, 0 … 1", repr(word), "correct it")
            if share < 1 and not self.modalities:
                raise ConfigError(f"rows.{part}", "modalities that a pair has", "none", "name them in rows.modalities")

    def share(self, part: str) -> float:
        """Of the unpaired who stay, in ``train`` or ``test``; NaN where the word is none of the three."""
        word = getattr(self, part)
        try:
            return {"all": 1.0, "paired": 0.0}[word] if word in ("all", "paired") else float(word)
        except ValueError:
            return math.nan


@dataclass(frozen=True)
class RunConfig:
    """One training run, complete.

    Args:
        seed: Initialisation, batch order, dropout.
        ensemble: Number of members with seeds ``seed, seed + 1, …``; their probabilities are averaged.
        fit: ``cross``: several fits, each on other patients, whose mean scores; each patient's risk by the fit that
            never saw them feeds corrections and stack and, without a test fold, is what is judged. ``single``: one fit
            on the train and tune folds of the split, as publications do, and cross-fitting for corrections alone.
        fits: Number K of the folds by patient of all but the test fold.
        modalities: What the method is given; none named = all that the store has.
        split: Which subjects play which role.
        rows: Which samples train and which are tested.
        hide: A modality hidden from some patients.
        train: How a deep model is trained.
        rectifier: The offset by pattern fitted after training.
    """

    seed: int = 0
    ensemble: int = 1
    fit: Literal["cross", "single"] = "cross"
    fits: int = 5
    modalities: tuple[str, ...] = ()
    split: SplitConfig = field(default_factory=SplitConfig)
    rows: RowsConfig = field(default_factory=RowsConfig)
    hide: HideConfig = field(default_factory=HideConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    rectifier: RectifierConfig = field(default_factory=RectifierConfig)

    def __post_init__(self) -> None:
        _at_least("ensemble", self.ensemble, 1)
        _at_least("fits", self.fits, 2)


PLAIN_TRAINING: Final[Mapping[str, Any]] = {
    "train.schedule": "constant",
    "train.warmup": 0.0,
    "train.clip_norm": 0.0,
    "train.weight_decay": 0.0,
    "train.min_steps": 0,
}
"""What a publication means that names an optimizer and a rate: no warm-up, no schedule, no clipping, no weight decay,
and as many epochs as it says. Part of the published settings of most methods (``ModelCard.original``)."""

CAREBENCH: Final[Mapping[str, Any]] = {
    **PLAIN_TRAINING,
    "train.weight_decay": 1e-2,
    "train.lr": 1e-4,
    "train.batch_size": 16,
    "train.max_epochs": 50,
    "train.patience": 10,
    "model.width": 256,
    "model.dropout": 0.2,
}
"""What the CareBench benchmark trained all its models with (AdamW at its usual weight decay)."""

CAREBENCH_IMAGE: Final[Mapping[str, Any]] = {
    "model.image.backbone": "resnet50",
    "model.image.channels": 3,
    "model.image.augment": "strong",
}
"""Its encoder of films. There it starts from ImageNet's weights, which here are a file of the user's own."""

CAREBENCH_ENCODERS: Final[Mapping[str, Any]] = {"model.series.encoder": "transformer", **CAREBENCH_IMAGE}
"""Its encoders of series and films, where a method does not say otherwise."""

MEDFUSE: Final[Mapping[str, Any]] = {
    **PLAIN_TRAINING,
    "train.batch_size": 16,
    "train.max_epochs": 50,
    "train.patience": 15,
    "model.width": 256,
    "model.dropout": 0.3,
    "model.series.encoder": "lstm",
    "model.series.layers": 2,
    "model.series.step": 2.0,
    "model.image.backbone": "resnet34",
    "model.image.channels": 3,
    "model.image.augment": "strong",
}
"""What the MedFuse paper trained all its models with; each has a rate of its own."""


PRESETS: Final = ("original", "carebench")
"""What a method's publication set, and what the CareBench benchmark set of its methods."""


def parse_overrides(
    overrides: Iterable[str], published: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> dict[str, Any]:
    """``["train.lr=3e-4"]`` → ``{"train.lr": "3e-4"}``; ``preset=original`` expands in place, the others win over it.

    Args:
        overrides: ``key=value``.
        published: Preset → what it stands for with the method in question.

    Raises:
        ConfigError: Not ``key=value``, no such preset, or none of this method.

    >>> parse_overrides(["train.lr=3e-4", "seed=2"])
    {'train.lr': '3e-4', 'seed': '2'}
    """
    out: dict[str, Any] = {}
    for word in overrides:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"override '{word}'", "key=value", "no '='", "write for example train.lr=3e-4")
        if key != "preset":
            out[key] = value
        elif value not in PRESETS:
            raise ConfigError("preset", " or ".join(PRESETS), repr(value), "leave it out for our defaults")
        elif value not in published:
            raise ConfigError(word, "a method with published settings", "one without", "leave it out")
        else:
            out = {**published[value], **out}
    return out


def override(
    config: C, changes: Mapping[str, Any], where: str = "", known: Callable[[], Iterable[str]] | None = None
) -> C:
    """A copy of a (nested, frozen) dataclass with dotted keys changed, each checked against its type.

    Args:
        where: What stands before each key, for messages.
        known: All keys that might have been meant; by default those of ``config``.

    Raises:
        ConfigError: An unknown key (the nearest name is offered) or a value of the wrong type.

    >>> override(RunConfig(), {"train.lr": "3e-4"}).train.lr
    0.0003
    """
    known = known or (lambda: keys_of(config, where))
    hints = get_type_hints(type(config))
    fields = {f.name for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    flat: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in changes.items():
        head, dot, rest = key.partition(".")
        if head not in fields:
            hint = nearest_key(f"{where}{key}", known())
            raise ConfigError(f"configuration key '{where}{key}'", "a known key", "an unknown one", hint)
        if dot:
            nested.setdefault(head, {})[rest] = value
        elif dataclasses.is_dataclass(getattr(config, head)) and isinstance(value, Mapping):
            nested.setdefault(head, {}).update(value)
        elif dataclasses.is_dataclass(getattr(config, head)):
            rooms = ", ".join(keys_of(getattr(config, head), f"{where}{head}."))
            raise ConfigError(f"configuration key '{where}{head}'", "one of its keys", "a value", f"known: {rooms}")
        else:
            flat[head] = _coerce(value, hints[head], f"{where}{head}")
    for head, inner in nested.items():
        current = getattr(config, head)
        if dataclasses.is_dataclass(current):
            flat[head] = override(current, inner, f"{where}{head}.", known)
        elif isinstance(current, dict):
            flat[head] = {**current, **{k: _coerce(v, float, f"{where}{head}.{k}") for k, v in inner.items()}}
        else:
            raise ConfigError(f"configuration key '{where}{head}'", "a single value", "a dotted key", f"set {head}=…")
    return dataclasses.replace(config, **flat)  # type: ignore[type-var]


def keys_of(config: Any, where: str = "") -> list[str]:
    """The dotted keys of a (nested) dataclass.

    >>> keys_of(RunConfig())[:3]
    ['seed', 'ensemble', 'fit']
    """
    keys = []
    for f in dataclasses.fields(config):
        value, key = getattr(config, f.name), f"{where}{f.name}"
        keys += keys_of(value, f"{key}.") if dataclasses.is_dataclass(value) else [key]
    return keys


def meanings(config: type[Any]) -> dict[str, str]:
    """Field → what it means, from the section "Args" of a dataclass's docstring, in which names may share a line.

    >>> meanings(RectifierConfig)["prior_no_effect"]
    'p0 of the lattice: prior probability that a scale of pattern offsets is zero.'
    """
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)*)", inspect.getdoc(config) or "", re.M)
    out: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", section[1] if section else ""):
        names, _, said = entry.partition(":")
        out |= {name.strip(): " ".join(said.split()) for name in names.split(",")}
    return out


def _coerce(value: Any, kind: Any, where: str) -> Any:
    """``value`` (often a word from the command line) as ``kind``."""
    origin = get_origin(kind)
    if origin is Literal:
        if value in get_args(kind):
            return value
        raise ConfigError(f"'{where}'", " | ".join(map(str, get_args(kind))), repr(value), "use one of these")
    if origin in (Union, types.UnionType):
        if value is None or str(value).lower() in ("none", "null"):
            return None
        return _coerce(value, next(a for a in get_args(kind) if a is not type(None)), where)
    if origin is tuple:
        items = [word for word in value.split(",") if word] if isinstance(value, str) else value
        return tuple(_coerce(item, get_args(kind)[0], where) for item in items)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"'{where}'", "names with values", repr(value), f"write {where}.NAME={value}")
        return dict(value)
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError(value)
        return kind(value)
    except (ValueError, KeyError, TypeError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise ConfigError(f"'{where}'", f"a value of type {name}", repr(value), "correct the override") from error


def to_plain(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON, nested."""
    return dataclasses.asdict(config)
