"""What a study file says. An unknown key, method or metric is refused with the nearest name before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from mmnar.errors import ConfigError
from mmnar.estimators.registry import is_network, known_names
from mmnar.evaluation.metrics import METRICS
from mmnar.evaluation.simulated import TO_BAYES
from mmnar.files import read_yaml
from mmnar.study.plain import a_list, flag, kind, known, mapping, one_of, parts, settings, whole, word, words
from mmnar.study.reference import figures_of

Layout = Literal[
    "comparison",
    "ladder",
    "sensitivity",
    "configurations",
    "cost",
    "embedding",
    "availability",
    "gaps",
    "curve",
    "kinds",
    "groups",
]

_TOP: Final = (
    *("title", "layout", "data", "rows", "settings", "folds", "seeds", "set", "deep", "search", "metrics", "controls"),
    *("resamples", "reference", "notes", "demo", "along", "outcomes", "by"),
)
_ROW: Final = ("model", "set", "rectified", "modalities", "best_of")
_MADE: Final = ("simulated", "planted", "carebench", "medfuse")
_DATA: Final = ("store", *_MADE, "subjects", "split", "reference", "set")
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
        best_of: Other rows: in each fold and for each question, the one with the least log loss out of fold
            (``study.choosing``). Such a row has no method and no runs of its own.
    """

    name: str
    model: str
    set: Mapping[str, Any] = field(default_factory=dict)
    rectified: bool = False
    modalities: tuple[str, ...] = ()
    best_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Data:
    """A store, or how to make one.

    Args:
        name: As shown.
        store: Path of a prepared store; may be given on the command line (``--data NAME=PATH``).
        simulated: Arguments of ``mmnar.simulation.population.simulate``.
        planted: ``{"mechanism", "patients", "seed"}`` of ``mmnar.simulation.planted``.
        carebench: ``{"patients", "seed", "image_side", "matched"}``: raw records of the simulated world of CareBench,
            read as ``mmnar prepare carebench`` reads them, with their exact risks.
        medfuse: ``{"patients", "seed", "image_side", "task"}``: the same records, read as ``mmnar prepare medfuse``
            reads them; their exact risks are of other questions and films.
        subjects: Keep a stated number of subjects, drawn by the hash of their identifiers.
        split: Overrides of the split, e.g. ``{"by": "set", "held_out": "b"}``; the study's folds are then one.
        reference: What the table of published figures calls it.
        set: Overrides of the runs on it.
    """

    name: str
    store: str = ""
    simulated: Mapping[str, Any] = field(default_factory=dict)
    planted: Mapping[str, Any] = field(default_factory=dict)
    carebench: Mapping[str, Any] = field(default_factory=dict)
    medfuse: Mapping[str, Any] = field(default_factory=dict)
    subjects: int = 0
    split: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    set: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """How each row's settings are chosen: on the tune fold of one fold, by log loss; all folds and seeds share them.

    Args:
        trials: Per row and data set, the defaults included; the same for every row.
        fold: Of the split.
        sampler: ``tpe``, ``gp`` (a Gaussian process) or ``grid``.
        space: Keys that every deep row searches: a list of values, or ``{low, high, log}``.
        spaces: Row → keys of its own.
        prune: Stop a trial whose tune loss is above the median of the earlier ones at its epoch.
    """

    trials: int
    fold: int = 0
    sampler: Literal["tpe", "gp", "grid"] = "tpe"
    space: Mapping[str, Any] = field(default_factory=dict)
    spaces: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prune: bool = True

    def of(self, row: Row) -> dict[str, Any]:
        """The keys that a row searches."""
        return {**(self.space if is_network(row.model) else {}), **self.spaces.get(row.name, {})}


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
        along: What a curve has on its x axis: one key of a run → its values, ascending. Each setting is then one for
            each value, named "setting · value".
        outcomes: Outcomes of panels that a curve shows by themselves, beside their panel.
        by: The attribute whose groups a table of groups shows.
        reference: Published figures, shown beside ours and never aimed at (``study.reference``). In the file: the name
            of a CSV file beside it.
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
    along: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    outcomes: tuple[str, ...] = ()
    by: str = ""

    def row(self, name: str) -> Row:
        return next(r for r in self.rows if r.name == name)

    @property
    def trained(self) -> tuple[Row, ...]:
        """The rows with runs of their own."""
        return tuple(row for row in self.rows if not row.best_of)


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
    raw = {**mapping(f"study '{path.name}'", read_yaml(path, f"study '{path.name}'") or None)}
    small = mapping("demo", raw.pop("demo", {}) or {})
    if demo:
        if not small:
            raise ConfigError(f"study '{path.name}'", "a section 'demo'", "none", "run it without --demo")
        raw = {**raw, **small}
    if raw.get("reference"):
        raw = {**raw, "reference": figures_of(path.parent / str(raw["reference"]))}
    spec = study_of(raw, stores or {})
    one_of("--only", only, [d.name for d in spec.data])
    chosen = tuple(d for d in spec.data if not only or d.name in only)
    if len(chosen) == len(spec.data):
        return spec
    return replace(spec, data=chosen, title=f"{spec.title}: {', '.join(d.name for d in chosen)} alone")


def study_of(raw: Mapping[str, Any], stores: Mapping[str, str] | None = None) -> StudySpec:
    """The study of plain mappings.

    Raises:
        ConfigError: See ``read_study``.
    """
    known("study", raw, _TOP)
    for key in ("title", "data"):
        if not raw.get(key):
            raise ConfigError("study", f"the key '{key}'", "none", "see `mmnar study table1 --show`")
    layout = word("layout", raw.get("layout", "comparison"))
    one_of("layout", [layout], get_args(Layout))
    data = tuple(_data(name, of, stores or {}) for name, of in parts("data", raw["data"]))
    for name in stores or {}:
        one_of("--data", [name], [d.name for d in data])
    rows = tuple(_row(name, of) for name, of in parts("rows", raw.get("rows")))
    if not rows and layout != "availability":
        raise ConfigError("study", "the key 'rows'", "none", "name at least one method")
    search = _search(raw["search"], [r.name for r in rows]) if raw.get("search") else None
    along = _along(raw.get("along"), layout)
    each = {name: settings(f"settings.{name}", of) for name, of in parts("settings", raw.get("settings"))}
    spec = StudySpec(
        title=word("title", raw["title"]),
        data=data,
        rows=rows,
        layout=layout,  # type: ignore[arg-type]
        settings=_spread_out(each or {"default": {}}, along),
        folds=whole("folds", raw.get("folds", 5), 1),
        seeds=tuple(whole("seeds", s, 0) for s in a_list("seeds", raw.get("seeds", [0]))),
        set=settings("set", raw.get("set")),
        deep=settings("deep", raw.get("deep")),
        search=search,
        metrics=words("metrics", raw.get("metrics", ["auroc", "auprc", "brier"])),
        controls=words("controls", raw.get("controls", [])),
        resamples=whole("resamples", raw.get("resamples", 1000), 1),
        reference=tuple(a_list("reference", raw.get("reference", []))),
        notes=word("notes", raw.get("notes", "")),
        along=along,
        outcomes=words("outcomes", raw.get("outcomes", [])),
        by=word("by", raw.get("by", "")),
    )
    if (layout == "groups") != bool(spec.by):
        raise ConfigError("by", "an attribute, of layout: groups", spec.by or "none", "write by: age_group")
    if not spec.seeds:
        raise ConfigError("seeds", "at least one", "none", "correct the study")
    one_of("metrics", spec.metrics, [*METRICS, *TO_BAYES])
    one_of("controls", spec.controls, [r.name for r in rows])
    for row in rows:
        one_of(f"row '{row.name}', best_of", row.best_of, [r.name for r in spec.trained])
    return spec


BY: Final = " · "
"""Between the name of a setting and the value along the x axis."""


def _along(raw: Any, layout: str) -> dict[str, tuple[float, ...]]:
    """The key on the x axis and its values; a curve has one, and nothing else has."""
    along = settings("along", raw)
    if (layout == "curve") != bool(along):
        fact = "none" if layout == "curve" else f"layout: {layout}"
        raise ConfigError(
            "along", "one key and its values, of layout: curve", fact, "write along: {hide.share: [0, 0.4]}"
        )
    for key, values in along.items():
        numbers = [v for v in a_list(f"along.{key}", values) if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if len(along) > 1 or numbers != list(values) or len(numbers) < 2 or sorted(set(numbers)) != numbers:
            raise ConfigError("along", "one key and at least two numbers, ascending", kind(values), "correct the study")
    return {key: tuple(values) for key, values in along.items()}


def _spread_out(
    each: Mapping[str, Mapping[str, Any]], along: Mapping[str, tuple[float, ...]]
) -> dict[str, Mapping[str, Any]]:
    """Every setting at every value along the x axis."""
    for key, values in along.items():
        return {f"{name}{BY}{value:g}": {**of, key: value} for name, of in each.items() for value in values}
    return dict(each)


def _row(name: str, of: Mapping[str, Any]) -> Row:
    what = f"row '{name}'"
    known(what, of, _ROW)
    if "best_of" in of:
        others = words(f"{what}, best_of", of["best_of"])
        if len(others) < 2 or len(of) > 1:
            raise ConfigError(f"{what}, best_of", "at least two rows, and no other key", "else", "correct the study")
        return Row(name, "", best_of=others)
    model, modalities = word(f"{what}, model", of.get("model", name)), words(what, of.get("modalities", []))
    one_of(what, [model] if ":" not in model else [], known_names())  # module:Class is looked for when it is planned
    return Row(name, model, settings(f"{what}, set", of.get("set")), flag(what, of.get("rectified", False)), modalities)


def _data(name: str, of: Mapping[str, Any], stores: Mapping[str, str]) -> Data:
    what = f"data '{name}'"
    known(what, of, _DATA)
    store = stores.get(name, word(f"{what}, store", of.get("store", "")))
    made = {k: settings(f"{what}, {k}", of[k]) for k in _MADE if of.get(k) and name not in stores}
    if bool(store) + len(made) != 1:
        raise ConfigError(
            what,
            f"one of store, {', '.join(_MADE)}",
            "several" if store or made else "none",
            f"write it in the study, or pass --data {name}=PATH",
        )
    if of.get("subjects") and not store:
        remedy = "leave it out, and say how many patients to make"
        raise ConfigError(f"{what}, subjects", "a store to draw them from", "none", remedy)
    if planted := made.get("planted"):
        known(f"{what}, planted", planted, ("mechanism", "patients", "seed"))
        word(f"{what}, planted, mechanism", planted.get("mechanism"))
        whole(f"{what}, planted, patients", planted.get("patients"), 1)
        whole(f"{what}, planted, seed", planted.get("seed", 0), 0)
    for kind_of, own in (("carebench", "matched"), ("medfuse", "task")):
        if world := made.get(kind_of):
            _check_records(f"{what}, {kind_of}", world, own)
    for key, value in made.get("simulated", {}).items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise ConfigError(f"{what}, simulated, {key}", "a number", kind(value), "correct the study")
    return Data(
        name,
        store,
        **made,
        subjects=whole(f"{what}, subjects", of.get("subjects", 0), 0),
        split=settings(f"{what}, split", of.get("split")),
        reference=word(f"{what}, reference", of.get("reference", "")),
        set=settings(f"{what}, set", of.get("set")),
    )


def _check_records(what: str, world: Mapping[str, Any], own: str) -> None:
    """Refuse simulated records that cannot be made; ``own`` is what only this kind of them can be told."""
    known(what, world, ("patients", "seed", "image_side", own))
    if own == "task":
        one_of(f"{what}, task", [word(f"{what}, task", world.get("task", ""))], ("mortality", "phenotypes"))
    else:
        flag(f"{what}, {own}", world.get(own, False))
    for key, least in (("patients", 1), ("seed", 0), ("image_side", 8)):
        whole(f"{what}, {key}", world.get(key, least), least)


def _search(raw: Mapping[str, Any], rows: Sequence[str]) -> Search:
    known("search", raw, _SEARCH)
    sampler = word("search.sampler", raw.get("sampler", "tpe"))
    one_of("search.sampler", [sampler], ("tpe", "gp", "grid"))
    search = Search(
        trials=whole("search.trials", raw.get("trials", 0), 1),
        fold=whole("search.fold", raw.get("fold", 0), 0),
        sampler=sampler,  # type: ignore[arg-type]
        space=mapping("search.space", raw.get("space") or {}),
        spaces=dict(parts("search.spaces", raw.get("spaces"))),
        prune=flag("search.prune", raw.get("prune", True)),
    )
    one_of("search.spaces", list(search.spaces), rows)
    for space in (search.space, *search.spaces.values()):
        for key, values in space.items():
            _can_be_sampled(key, values, search.sampler)
    return search


def _can_be_sampled(key: str, values: Any, sampler: str) -> None:
    """Refuse a range that is none."""
    if isinstance(values, Mapping):
        known(f"search of '{key}'", values, _RANGE)
        low, high = values.get("low"), values.get("high")
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (low, high))
        if numbers and low < high and (not values.get("log") or low > 0) and sampler != "grid":  # type: ignore[operator]
            return
        expected = "a list of values" if sampler == "grid" else "numbers low < high (low > 0 where log)"
    elif isinstance(values, list) and values:
        return
    else:
        expected = "a list of values, or {low, high, log}"
    raise ConfigError(f"search of '{key}'", expected, kind(values), "correct the range")
