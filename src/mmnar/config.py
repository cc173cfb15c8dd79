"""Configuration: frozen dataclasses are the truth; ``a.b=c`` overrides and mappings change them, strictly."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mmnar.errors import ConfigError

__all__ = [
    "RectifierConfig",
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

SAME: Final = (
    ("lr", "learning_rate", "step_size"),
    ("max_epochs", "epochs", "n_epochs", "num_epochs"),
    ("batch_size", "batch", "bs", "minibatch"),
    ("weight_decay", "wd", "decay", "l2"),
    ("patience", "early_stopping", "early_stop"),
    ("clip_norm", "clip", "grad_clip", "gradient_clip", "gradient_clip_val", "max_grad_norm"),
    ("warmup", "warmup_steps", "warmup_ratio", "warmup_share"),
    ("min_steps", "steps", "max_steps"),
    ("label_loss", "loss", "criterion"),
    ("focal_gamma", "gamma"),
    ("focal_alpha", "alpha"),
    ("task_weights", "loss_weights", "class_weight", "weights"),
    ("accelerator", "device", "gpu", "cuda"),
    ("devices", "gpus", "num_gpus", "n_devices"),
    ("precision", "amp", "dtype"),
    ("seed", "random_state", "random_seed", "manual_seed"),
    ("ensemble", "members", "n_members", "ensemble_size"),
    ("folds", "n_folds", "num_folds", "n_splits", "cv", "kfold", "k"),
    ("tune", "val", "valid", "validation", "dev", "val_size", "validation_split"),
    ("test", "test_size", "test_split", "test_share"),
    ("held_out", "holdout", "leave_out"),
    ("by", "group", "groups", "stratify"),
    ("rule", "rectifier", "method"),
    ("prior_no_effect", "p0"),
    ("width", "dim", "d_model", "embed_dim", "embedding_dim", "hidden", "hidden_dim", "hidden_size"),
    ("layers", "n_layers", "num_layers", "depth"),
    ("heads", "nhead", "n_heads", "num_heads"),
    ("dropout", "drop", "drop_rate", "dropout_rate"),
    ("temperature", "tau"),
    ("experts", "n_experts", "num_experts"),
    ("neighbours", "neighbors", "n_neighbors", "k"),
    ("clusters", "n_clusters", "num_clusters", "centroids"),
    ("max_trees", "n_estimators", "num_trees", "n_trees", "trees", "num_boost_round", "iterations", "max_iter"),
    ("leaves", "num_leaves", "max_leaf_nodes"),
    ("c", "inverse_penalties", "regularization", "reg"),
    ("append_pattern", "mask", "missing_indicator", "indicators", "add_indicator"),
)
"""Names of one thing in other libraries and here."""


@dataclass(frozen=True)
class TrainConfig:
    """How a deep model is trained. One loop, one configuration, for all of them.

    Args:
        max_epochs: Passes over the training fold.
        min_steps: Small folds get more passes, until this many steps are made.
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


@dataclass(frozen=True)
class SplitConfig:
    """Which subjects play which role (``mmnar.Split``).

    Args:
        seed: Of the assignment of subjects; another one is another split.
        tune: Share of the subjects, those of the test fold apart, who stop training early and choose settings.
        test: Share of the subjects who are scored, where ``folds`` is 1.
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
        folds: K of the out-of-fold predictions it is fed with.
        kappas: Candidates for κ of the threshold rule, chosen among by the Brier score; one fixes it.
        prior_no_effect: p0 of the lattice: prior probability that a scale of pattern offsets is zero.
    """

    rule: Literal["lattice", "threshold", "none"] = "lattice"
    folds: int = 5
    kappas: tuple[float, ...] = (0.0, 0.01, 0.02, 0.03, 0.05)
    prior_no_effect: float = 0.85


@dataclass(frozen=True)
class RunConfig:
    """One training run, complete.

    Args:
        seed: Initialisation, batch order, dropout.
        ensemble: Number of members with seeds ``seed, seed + 1, …``; their probabilities are averaged.
        split: Which subjects play which role.
        train: How a deep model is trained.
        rectifier: The offset by pattern fitted after training.
    """

    seed: int = 0
    ensemble: int = 1
    split: SplitConfig = field(default_factory=SplitConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    rectifier: RectifierConfig = field(default_factory=RectifierConfig)


PLAIN_TRAINING: Final[Mapping[str, Any]] = {
    "train.schedule": "constant",
    "train.warmup": 0.0,
    "train.clip_norm": 0.0,
    "train.weight_decay": 0.0,
    "train.min_steps": 0,
}
"""What a publication means that names an optimizer and a rate: no warm-up, no schedule, no clipping, no weight decay,
and as many epochs as it says. Part of the published settings of most methods (``ModelCard.original``)."""


def parse_overrides(overrides: Iterable[str], original: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``["train.lr=3e-4"]`` → ``{"train.lr": "3e-4"}``; ``preset=original`` expands in place, the others win over it.

    Args:
        overrides: ``key=value``.
        original: What ``preset=original`` stands for: the published settings of the method in question.

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
        elif value != "original":
            raise ConfigError("preset", "original", repr(value), "leave it out for our defaults")
        elif original is None:
            raise ConfigError("preset=original", "a method with published settings", "one without", "leave it out")
        else:
            out = {**original, **out}
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
    ['seed', 'ensemble', 'split.seed']
    """
    keys = []
    for f in dataclasses.fields(config):
        value, key = getattr(config, f.name), f"{where}{f.name}"
        keys += keys_of(value, f"{key}.") if dataclasses.is_dataclass(value) else [key]
    return keys


def nearest_key(word: str, known: Iterable[str]) -> str:
    """A hint that names the key that was meant: the same last part elsewhere, what others call it, or like spelling.

    >>> nearest_key("train.learning_rate", keys_of(RunConfig()))
    "did you mean 'train.lr'?"
    >>> nearest_key("lr", keys_of(RunConfig()))
    "did you mean 'train.lr'?"
    """
    keys = sorted(set(known))
    room, _, last = word.replace("-", "_").lower().rpartition(".")

    def likeness(key: str) -> float:
        there, _, name = key.rpartition(".")
        rooms = difflib.SequenceMatcher(None, room, there).ratio() if there else 0.5
        return difflib.SequenceMatcher(None, last, name).ratio() + rooms

    others = {other for group in SAME if last in group for other in group}
    inside = [key for key in keys if key.rpartition(".")[0] == room]
    for where, meant in ((inside, {last}), (inside, others), (keys, {last}), (keys, others)):
        found = [key for key in where if key.rpartition(".")[2] in meant]
        if found:
            return f"did you mean '{max(found, key=likeness)}'?"
    for where in (inside, keys):
        close = difflib.get_close_matches(last, {key.rpartition(".")[2] for key in where}, n=1, cutoff=0.65)
        if close:
            return f"did you mean '{max((k for k in where if k.rpartition('.')[2] == close[0]), key=likeness)}'?"
    rooms = sorted({key.partition(".")[0] + ".…" * ("." in key) for key in keys})
    return "known: " + ", ".join(inside if room and inside else rooms)


def meanings(config: type[Any]) -> dict[str, str]:
    """Field → what it means, from the section "Args" of a dataclass's docstring, in which names may share a line.

    >>> meanings(RectifierConfig)["folds"]
    'K of the out-of-fold predictions it is fed with.'
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
