"""The table of runs: every cell of data × row × setting × fold × seed, one hash a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

from mmnar.cohort.split import Split
from mmnar.config import RowsConfig, RunConfig, keys_of, override, to_plain
from mmnar.dataset.regimes import Regime, settled
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.encoders.settings import IMAGE, SERIES
from mmnar.errors import ConfigError, EmptyFoldError, nearest
from mmnar.estimators.registry import (
    STACK,
    SWITCH,
    build_estimator,
    defaults,
    is_network,
    is_trained,
    method_target,
    model_settings,
    resolve_run,
)
from mmnar.estimators.started import refuse_judged
from mmnar.study.code import code_fingerprint
from mmnar.study.data import check_folds
from mmnar.study.spec import Data, Row, Search, StudySpec
from mmnar.workflow.train import proper_score

Chosen = Mapping[tuple[str, str], Mapping[str, Any]]
"""(data, row) → what the search chose."""

Stores = Mapping[str, Path]
"""Data → path."""


@dataclass(frozen=True)
class Job:
    """Work for one process: plain values, so that it can travel.

    Args:
        id: Hash of everything its result depends on: data, code, method, settings, fold, seed.
        kind: ``run`` (fit and score) or ``search`` (trials on the tune fold).
        label: For people.
        folder: Where its result goes; finished once it holds ``run.json`` or ``best.json``.
        task: Arguments of ``study.work``.
    """

    id: str
    kind: Literal["run", "search"]
    label: str
    folder: str
    task: dict[str, Any]

    @property
    def finished(self) -> bool:
        return (Path(self.folder) / {"run": "run.json", "search": "best.json"}[self.kind]).is_file()


@dataclass(frozen=True)
class Cell:
    """A place in the table; ``job`` is "" where ``refusal`` says why the method cannot run there."""

    data: str
    row: str
    setting: str
    fold: int
    seed: int
    job: str
    refusal: str = ""


@dataclass(frozen=True)
class Plan:
    """Cells in order, the jobs behind them (cells may share one), and notices about the data."""

    cells: tuple[Cell, ...]
    jobs: Mapping[str, Job]
    notices: tuple[str, ...] = ()
    chosen: Chosen = field(default_factory=dict)


def plan_runs(spec: StudySpec, stores: Stores, out: Path, chosen: Chosen) -> Plan:
    """All runs of a study.

    Where a choice of patients (``rows``, ``hide``) leaves nobody to learn from or to test on, the cells of that row and
    setting say so, and the others are run.

    Raises:
        ConfigError: An override that a method does not have, folds that cannot be trained on, rows of one table that
            would be tested on different samples; or no cell at all has patients.
        LeakageError: A row starts from weights that have seen who is to be scored.
        StoreError: A store that cannot be opened.
    """
    cells: list[Cell] = []
    jobs: dict[str, Job] = {}
    notices: list[str] = []
    empty: dict[tuple[str, str, str], EmptyFoldError] = {}
    for data in spec.data if spec.rows else ():
        folds, dataset = folds_of(spec, data), open_store(stores[data.name])
        _check_outcomes(spec, dataset, data.name)
        said, without = _checked(spec, data, dataset)
        notices += said
        empty |= {(data.name, *place): error for place, error in without.items()}
        # fold by fold, so that the pace of the first one tells how long the others take
        for fold, seed, row, setting in product(folds, spec.seeds, spec.trained, spec.settings):
            own = overrides(spec, data, row, chosen.get((data.name, row.name), {}), spec.settings[setting])
            options = [*as_overrides(own, data, fold), *split_overrides(spec, data, fold), f"seed={seed}"]
            place = (data.name, row.name, setting, fold, seed)
            try:
                identity, refusal = _identity(row, options, dataset)
            except EmptyFoldError as error:  # one fold of five is enough: a row has all of its folds or no numbers
                empty.setdefault((data.name, row.name, setting), error)
                identity, refusal = {}, str(error)
            if refusal:
                cells.append(Cell(*place, "", refusal))
                continue
            key = hash_of(identity)
            task = {"store": str(stores[data.name]), "model": row.model, "overrides": options}
            label = f"{data.name} · {row.name} · {setting} · fold {fold} · seed {seed}"
            jobs.setdefault(key, Job(key, "run", label, str(out / "runs" / key), task))
            cells.append(Cell(*place, key))
    cells = [_without_patients(spec, cell, empty) for cell in cells]
    if empty and all(cell.refusal for cell in cells):
        raise next(iter(empty.values()))
    needed = {cell.job for cell in cells}
    return Plan(tuple(cells), {k: j for k, j in jobs.items() if k in needed}, tuple(dict.fromkeys(notices)), chosen)


def _without_patients(spec: StudySpec, cell: Cell, empty: Mapping[tuple[str, str, str], EmptyFoldError]) -> Cell:
    """The cell as it is, or refused where its row has no patients under its setting in some fold."""
    error = empty.get((cell.data, cell.row, cell.setting))
    if error is None:
        return cell
    under = f"setting '{cell.setting}', " if len(spec.settings) > 1 else ""
    return replace(cell, job="", refusal=f"{under}{error}")


def _identity(row: Row, options: Sequence[str], dataset: PatientDataset) -> tuple[dict[str, Any], str]:
    """Everything a run's numbers depend on; and why the method cannot run there, or ""."""
    config, model = resolve_run(row.model, options)
    config, regime = settled(config, dataset)
    recipe = build_estimator(row.model, model, config.train, config.ensemble)
    if len(recipe.starts_from()):
        split = Split(**to_plain(config.split))
        refuse_judged(recipe, config, regime.laid_over(dataset, split), split, proper_score(row.model, config))
    settings = model_settings(recipe)
    identity = {
        "model": row.model,
        "settings": settings,
        "config": to_plain(config),
        "data": dataset.fingerprint,
        "regime": regime.to_dict(),
        "code": code_fingerprint(*targets_of(row.model, settings)),
    }
    return identity, recipe.refuses(dataset.with_modalities(config.modalities).schema) or ""


Without = dict[tuple[str, str], EmptyFoldError]
"""(row, setting) → why nobody is left."""


def _checked(spec: StudySpec, data: Data, dataset: PatientDataset) -> tuple[list[str], Without]:
    """Notices about folds, of every choice of who plays a role; and which choices leave nobody.

    Raises:
        ConfigError: Folds that cannot be trained on though all patients take part, or rows of one setting that are
            tested on different samples.
    """
    found: dict[RowsConfig, list[tuple[str, str]]] = {}
    without: Without = {}
    for setting in spec.settings:
        regimes: dict[str, Regime] = {}
        for row in spec.trained:
            try:
                if spec.search and spec.search.of(row):  # what cannot be searched is not run with settings unsearched
                    _identity(row, _search_options(spec, data, row, spec.search), dataset)
                regimes[row.name] = regime_of(spec, data, row, setting, 0, dataset)
            except EmptyFoldError as error:
                without[row.name, setting] = error
        first, remedy = next(iter(regimes), ""), "say it in set or settings, of all rows alike"
        for name, regime in regimes.items():
            found.setdefault(regime.rows, []).append((name, setting))
            if regime.tested != regimes[first].tested:
                fact = "another rows.test or hide of the test fold"
                raise ConfigError(f"rows '{first}' and '{name}'", "the same test samples in one table", fact, remedy)
        for row in spec.rows:
            hidden = [(of.hide, of.law) for member in row.best_of if (of := regimes.get(member))]
            if any(of != hidden[0] for of in hidden):
                where, expected = f"row '{row.name}', best_of", "rows that are judged out of fold on the same records"
                raise ConfigError(where, expected, "another hide in one of them", remedy)
    splits, notices = [split_of(spec, data, fold) for fold in folds_of(spec, data)], []
    for rows, places in found.items():
        try:
            notices += check_folds(dataset, splits, data.name, rows)
        except EmptyFoldError as error:
            if rows == RowsConfig():
                raise
            without |= dict.fromkeys(places, error)
    return notices, without


def regime_of(spec: StudySpec, data: Data, row: Row, setting: str, fold: int, dataset: PatientDataset) -> Regime:
    """What a row is asked to be fitted and tested under, whether its method is given what is hidden or not."""
    own = as_overrides(overrides(spec, data, row, {}, spec.settings[setting]))
    config, _ = resolve_run(row.model, [*own, *split_overrides(spec, data, fold)])
    return settled(replace(config, modalities=()), dataset)[1]


def _check_outcomes(spec: StudySpec, dataset: PatientDataset, name: str) -> None:
    """
    Raises:
        ConfigError: ``outcomes`` names no task of a data set, or ``by`` no attribute.
    """
    if spec.by and spec.by not in (known := tuple(dataset.attributes)):
        raise ConfigError(f"by: '{spec.by}'", f"an attribute of '{name}'", "another name", nearest(spec.by, known))
    for task in spec.outcomes:
        if task not in (known := dataset.schema.task_names):
            raise ConfigError(f"outcomes: '{task}'", f"a task of '{name}'", "another name", nearest(task, known))


def split_of(spec: StudySpec, data: Data, fold: int) -> Split:
    """Who plays which role in a fold."""
    return Split(**to_plain(resolve_run("pattern-only", split_overrides(spec, data, fold))[0].split))


def plan_searches(spec: StudySpec, stores: Stores, out: Path) -> dict[tuple[str, str], Job]:
    """One job per data set and row that has something to search: all its trials, one after the other.

    Raises:
        ConfigError: A searched key that the method does not have.
    """
    jobs: dict[tuple[str, str], Job] = {}
    if spec.search is None:
        return jobs
    for data, row in product(spec.data, spec.trained):
        space = spec.search.of(row)
        dataset = open_store(stores[data.name])
        options = _search_options(spec, data, row, spec.search)
        try:
            identity, refusal = _identity(row, options, dataset)
        except EmptyFoldError as error:
            identity, refusal = {}, str(error)
        if not space or refusal:
            continue
        for key, values in space.items():  # a key or value that the method does not have is refused here
            first = values[0] if isinstance(values, list) else values["low"]
            _identity(row, [*options, *as_overrides({key: first})], dataset)
        how = {"space": space, "trials": spec.search.trials, "sampler": spec.search.sampler, "prune": spec.search.prune}
        task = {"store": str(stores[data.name]), "model": row.model, "overrides": options, **how}
        key = hash_of({**identity, **how})
        jobs[data.name, row.name] = Job(
            key, "search", f"{data.name} · {row.name} · search", str(out / "searches" / key), task
        )
    return jobs


def _search_options(spec: StudySpec, data: Data, row: Row, search: Search) -> list[str]:
    options = as_overrides(overrides(spec, data, row, {}, {}), data, search.fold)
    return [*options, *split_overrides(spec, data, search.fold)]


def overrides(
    spec: StudySpec, data: Data, row: Row, chosen: Mapping[str, Any], setting: Mapping[str, Any]
) -> dict[str, Any]:
    """Later ones win: the study's, deep methods', the data set's, the row's, what the search chose, the setting's. What
    is said of all rows and is a matter of the training loop or of a shared encoder tells only where there is one."""
    deep = _telling(row, spec.deep) if is_network(row.model) else {}
    own = {**row.set, **({"modalities": row.modalities} if row.modalities else {})}
    return {**_telling(row, spec.set), **deep, **_telling(row, data.set), **own, **chosen, **_telling(row, setting)}


def _telling(row: Row, settings: Mapping[str, Any]) -> dict[str, Any]:
    # what does not tell here is refused all the same where it is no setting at all
    override(RunConfig(), {key: value for key, value in settings.items() if key.startswith("train.")})
    own = defaults(row.model)
    return {
        key: value
        for key, value in settings.items()
        if (is_trained(row.model) or not key.startswith("train."))
        and (key not in _SHARED or hasattr(own, _SHARED[key]))
    }


_SHARED: Final = {
    f"model.{name}.{key}": name for name, config in (("image", IMAGE), ("series", SERIES)) for key in keys_of(config)
}
"""Settings of the encoders that methods share → the field of a method that has it."""

_WEIGHTS: Final = "model.image.weights"


def folds_of(spec: StudySpec, data: Data) -> range:
    return range(1 if data.split else spec.folds)


def split_overrides(spec: StudySpec, data: Data, fold: int) -> list[str]:
    """The overrides that choose a fold."""
    if data.split:
        return as_overrides({f"split.{key}": value for key, value in data.split.items()})
    return [f"split.folds={spec.folds}", f"split.fold={fold}"]


def as_overrides(settings: Mapping[str, Any], data: Data | None = None, fold: int = 0) -> list[str]:
    """``{"train.lr": 1e-3}`` → ``["train.lr=0.001"]``.

    Args:
        data, fold: Whose file of weights is meant, where its name says ``{data}`` or ``{fold}``.
    """
    words = {k: ",".join(map(str, v)) if isinstance(v, (list, tuple)) else str(v) for k, v in settings.items()}
    if data is not None and _WEIGHTS in words:
        words[_WEIGHTS] = words[_WEIGHTS].replace("{data}", data.name).replace("{fold}", str(fold))
    return [f"{key}={word}" for key, word in words.items()]


def targets_of(model: str, settings: Mapping[str, Any]) -> list[str]:
    """The modules behind a registry name: one, or those of a stack's or switch's members."""
    if model == STACK:
        return [target for name, own in settings["members"].items() for target in targets_of(name, own)]
    if model == SWITCH:
        members = [targets_of(settings[of]["model"], settings[of]["settings"]) for of in ("complete", "other")]
        return ["mmnar.estimators.switch:Switch", *members[0], *members[1]]
    return [method_target(model)]


def hash_of(identity: Mapping[str, Any]) -> str:
    """12 hex digits."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
