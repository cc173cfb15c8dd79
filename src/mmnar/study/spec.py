"""What a study file says. An unknown key, method or metric is refused with the nearest name before anything runs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from mmnar.errors import ConfigError, nearest
from mmnar.estimators.registry import model_names
from mmnar.evaluation.metrics import METRICS
from mmnar.evaluation.simulated import TO_BAYES
from mmnar.models.registry import MODELS
from mmnar.shipped import FOLDER

Layout = Literal["comparison", "ladder", "sensitivity", "configurations", "cost", "embedding", "availability"]

_TOP: Final = (
    *("title", "layout", "data", "rows", "settings", "folds", "seeds", "set", "deep", "search", "metrics", "controls"),
    *("resamples", "reference", "notes", "demo"),
)
_ROW: Final = ("model", "set", "rectified", "modalities")
_DATA: Final = ("store", "simulated", "planted", "subjects", "split", "reference")
_SEARCH: Final = ("trials", "fold", "sampler", "space", "spaces", "prune")
_RANGE: Final = ("low", "high", "log")


@dataclass(frozen=True)
class Row:
    """A line of the study's tables.

    Args:
        name: As shown.
        model: Registry name.
        set: Overrides of its own.
        rectified: Judge the predictions after the rectifier (a row that shares all else shares the runs).
        modalities: Let the method have these alone; empty = all of them.
    """

    name: str
    model: str
    set: Mapping[str, Any] = field(default_factory=dict)
    rectified: bool = False
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """A store, or how to make one.

    Args:
        name: As shown.
        store: Path of a prepared store; may be given on the command line (``--data NAME=PATH``).
        simulated: Arguments of ``mmnar.simulation.population.simulate``.
        planted: ``{"mechanism", "patients", "seed"}`` of ``mmnar.simulation.planted``.
        subjects: Keep a stated number of subjects, drawn by the hash of their identifiers.
        split: Overrides of the split, e.g. ``{"by": "set", "held_out": "b"}``; the study's folds are then one.
        reference: What the table of published figures calls it.
    """

    name: str
    store: str = ""
    simulated: Mapping[str, Any] = field(default_factory=dict)
    planted: Mapping[str, Any] = field(default_factory=dict)
    subjects: int = 0
    split: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""


@dataclass(frozen=True)
class Search:
    """How each row's settings are chosen: on the tune fold of one fold, by log loss; all folds and seeds share them.

    Args:
        trials: Per row and data set, the defaults included; the same for every row.
        fold: Of the split.
        sampler: ``tpe`` or ``grid``.
        space: Keys that every deep row searches: a list of values, or ``{low, high, log}``.
        spaces: Row → keys of its own.
        prune: Stop a trial whose tune loss is above the median of the earlier ones at its epoch.
    """

    trials: int
    fold: int = 0
    sampler: Literal["tpe", "grid"] = "tpe"
    space: Mapping[str, Any] = field(default_factory=dict)
    spaces: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prune: bool = True

    def of(self, row: Row) -> dict[str, Any]:
        """The keys that a row searches."""
        return {**(self.space if row.model in MODELS else {}), **self.spaces.get(row.name, {})}


@dataclass(frozen=True)
class StudySpec:
    """A study.

    Args:
        title, notes: Shown in the report.
        layout: How its tables are laid out.
        data, rows: In order.
        settings: name → overrides of every run.
        folds: Of the cross-validation by subject.
        seeds: Of training.
        set: Overrides of every run.
        deep: Overrides of the runs of deep methods.
        search: None = default settings.
        metrics: Shown.
        controls: Rows that all others are tested against.
        resamples: Of the patient-clustered bootstrap.
        reference: Published figures, shown beside ours and never aimed at: ``data, task, row, metric, value, spread``
            of each. In the file: the name of a CSV file beside it.
    """

    title: str
    data: tuple[Data, ...]
    rows: tuple[Row, ...]
    layout: Layout = "comparison"
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"default": {}})
    folds: int = 5
    seeds: tuple[int, ...] = (0,)
    set: Mapping[str, Any] = field(default_factory=dict)
    deep: Mapping[str, Any] = field(default_factory=dict)
    search: Search | None = None
    metrics: tuple[str, ...] = ("auroc", "auprc", "brier")
    controls: tuple[str, ...] = ()
    resamples: int = 1000
    reference: tuple[Mapping[str, str], ...] = ()
    notes: str = ""

    def row(self, name: str) -> Row:
        return next(r for r in self.rows if r.name == name)


def read_study(
    path: Path, *, demo: bool = False, stores: Mapping[str, str] | None = None, only: Sequence[str] = ()
) -> StudySpec:
    """The study in a YAML file.

    Args:
        demo: Put what the file says under ``demo`` in place of what it says elsewhere.
        stores: data name → path, from the command line.
        only: Names of the data sets to run on; none = all.

    Raises:
        ConfigError: Not YAML, or anything in it is unknown or impossible; the nearest name is offered.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"study '{path.name}'", "a YAML file", str(error), "correct the file") from error
    if not isinstance(raw, dict):
        raise ConfigError(
            f"study '{path.name}'", "keys and values", type(raw).__name__, "see `mmnar study table1 --show`"
        )
    small = raw.pop("demo", {})
    if demo:
        if not small:
            raise ConfigError(f"study '{path.name}'", "a section 'demo'", "none", "run it without --demo")
        raw = {**raw, **small}
    if raw.get("reference"):
        raw = {**raw, "reference": _figures(path.parent / str(raw["reference"]))}
    spec = study_of(raw, stores or {})
    _one_of("--only", only, [d.name for d in spec.data])
    chosen = tuple(d for d in spec.data if not only or d.name in only)
    if len(chosen) == len(spec.data):
        return spec
    return replace(spec, data=chosen, title=f"{spec.title}: {', '.join(d.name for d in chosen)} alone")


def _figures(path: Path) -> tuple[dict[str, str], ...]:
    """Published figures of a CSV file: beside the study or, of a copy of one of ours, beside ours."""
    if not path.is_file() and (FOLDER / "studies" / "reference" / path.name).is_file():
        path = FOLDER / "studies" / "reference" / path.name
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return tuple(csv.DictReader(handle))
    except OSError as error:
        raise ConfigError("reference", "a CSV file beside the study", str(error), "correct its name") from error


def study_of(raw: Mapping[str, Any], stores: Mapping[str, str] | None = None) -> StudySpec:
    """The study of plain mappings.

    Raises:
        ConfigError: See ``read_study``.
    """
    _known("study", raw, _TOP)
    for key in ("title", "data"):
        if not raw.get(key):
            raise ConfigError("study", f"the key '{key}'", "none", "see `mmnar study table1 --show`")
    layout = raw.get("layout", "comparison")
    _one_of("layout", [layout], get_args(Layout))
    data = tuple(_data(name, of or {}, stores or {}) for name, of in raw["data"].items())
    for name in stores or {}:
        _one_of("--data", [name], [d.name for d in data])
    rows = tuple(_row(name, of or {}) for name, of in (raw.get("rows") or {}).items())
    if not rows and layout != "availability":
        raise ConfigError("study", "the key 'rows'", "none", "name at least one method")
    search = _search(raw["search"], [r.name for r in rows]) if raw.get("search") else None
    spec = StudySpec(
        title=str(raw["title"]),
        data=data,
        rows=rows,
        layout=layout,
        settings={str(k): v or {} for k, v in (raw.get("settings") or {"default": {}}).items()},
        folds=_whole("folds", raw.get("folds", 5), 1),
        seeds=tuple(_whole("seeds", s, 0) for s in raw.get("seeds", (0,))),
        set=raw.get("set") or {},
        deep=raw.get("deep") or {},
        search=search,
        metrics=tuple(raw.get("metrics", ("auroc", "auprc", "brier"))),
        controls=tuple(raw.get("controls", ())),
        resamples=_whole("resamples", raw.get("resamples", 1000), 1),
        reference=tuple(raw.get("reference", ())),
        notes=str(raw.get("notes", "")),
    )
    _one_of("metrics", spec.metrics, [*METRICS, *TO_BAYES])
    _one_of("controls", spec.controls, [r.name for r in rows])
    return spec


def _row(name: str, of: Mapping[str, Any]) -> Row:
    _known(f"row '{name}'", of, _ROW)
    model, modalities = str(of.get("model", name)), tuple(of.get("modalities", ()))
    _one_of(f"row '{name}'", [model], model_names())
    return Row(name, model, of.get("set") or {}, bool(of.get("rectified", False)), modalities)


def _data(name: str, of: Mapping[str, Any], stores: Mapping[str, str]) -> Data:
    _known(f"data '{name}'", of, _DATA)
    store = stores.get(name, of.get("store", ""))
    made = {} if name in stores else {k: of[k] for k in ("simulated", "planted") if of.get(k)}
    if bool(store) + len(made) != 1:
        raise ConfigError(
            f"data '{name}'",
            "one of store, simulated, planted",
            "several" if store or made else "none",
            f"write it in the study, or pass --data {name}=PATH",
        )
    if of.get("subjects") and not store:
        remedy = "leave it out, and say how many patients to make"
        raise ConfigError(f"data '{name}', subjects", "a store to draw them from", "none", remedy)
    if of.get("planted"):
        _known(f"data '{name}', planted", of["planted"], ("mechanism", "patients", "seed"))
    return Data(
        name,
        str(store),
        **made,
        subjects=_whole(f"data '{name}', subjects", of.get("subjects", 0), 0),
        split=of.get("split") or {},
        reference=str(of.get("reference", "")),
    )


def _search(raw: Mapping[str, Any], rows: Sequence[str]) -> Search:
    _known("search", raw, _SEARCH)
    search = Search(
        trials=_whole("search.trials", raw.get("trials", 0), 1),
        fold=_whole("search.fold", raw.get("fold", 0), 0),
        sampler=raw.get("sampler", "tpe"),
        space=raw.get("space") or {},
        spaces=raw.get("spaces") or {},
        prune=bool(raw.get("prune", True)),
    )
    _one_of("search.sampler", [search.sampler], ("tpe", "grid"))
    _one_of("search.spaces", list(search.spaces), rows)
    for space in (search.space, *search.spaces.values()):
        for key, values in space.items():
            _can_be_sampled(key, values, search.sampler)
    return search


def _can_be_sampled(key: str, values: Any, sampler: str) -> None:
    """Refuse a range that is none."""
    if isinstance(values, Mapping):
        _known(f"search of '{key}'", values, _RANGE)
        low, high = values.get("low"), values.get("high")
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (low, high))
        if numbers and low < high and (not values.get("log") or low > 0) and sampler == "tpe":  # type: ignore[operator]
            return
        expected = "a list of values" if sampler == "grid" else "numbers low < high (low > 0 where log)"
    elif isinstance(values, list) and values:
        return
    else:
        expected = "a list of values, or {low, high, log}"
    raise ConfigError(f"search of '{key}'", expected, repr(values), "correct the range")


def _known(what: str, raw: Any, keys: Sequence[str]) -> None:
    if not isinstance(raw, Mapping):
        raise ConfigError(what, "keys and values", repr(raw), "see `mmnar study table1 --show`")
    for key in raw:
        if key not in keys:
            raise ConfigError(f"{what}: key '{key}'", "a known key", "an unknown one", nearest(str(key), keys))


def _one_of(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{what}: '{name}'", "a known name", "an unknown one", nearest(str(name), known))


def _whole(what: str, value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(what, f"a whole number ≥ {least}", repr(value), "correct the study")
    return value
