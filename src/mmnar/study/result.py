"""What a study found, from the stored predictions of its runs alone. Plain data, JSON both ways."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.store import Fold, PatientDataset, open_store
from mmnar.errors import StoreError
from mmnar.evaluation.atlas import Atlas, availability
from mmnar.evaluation.compare import compare, correct, same_sample
from mmnar.evaluation.embedding import Embedding, embedding_analysis
from mmnar.evaluation.evaluate import Panels, is_coarse, judge_panels, judged
from mmnar.evaluation.group_gaps import GroupGaps, group_gaps
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.metrics import HIGHER_IS_BETTER, METRICS
from mmnar.evaluation.patterns import pattern_rows
from mmnar.evaluation.ranks import Ranks, average_ranks
from mmnar.evaluation.repeated import mean_over_seeds
from mmnar.evaluation.result import (
    Comparison,
    Estimate,
    GroupRow,
    PanelModel,
    decimals,
    disclosed_metrics,
    disclosed_of_panel,
)
from mmnar.evaluation.scored import Scored
from mmnar.files import write_text
from mmnar.predictions import Predictions, commonly_asked, concat
from mmnar.roles import Test
from mmnar.schema import gathered
from mmnar.study.choosing import best_of, questions
from mmnar.study.driver import Done, Failure
from mmnar.study.parts import Part, by_group, by_kind
from mmnar.study.plan import Cell, folds_of, regime_of, split_of
from mmnar.study.spec import Row, StudySpec
from mmnar.workflow import Run, open_run, versions

FORMAT: Final = "mmnar.study/4"
EXACT: Final = "exact risks"
"""The row of what nothing can beat but by chance, where it is known."""
STEPPED: Final = ("auroc", "brier")
"""Metrics that a ladder shows step by step."""


@dataclass(frozen=True)
class RowTask:
    """One row on one task: metric → mean over seeds with its interval, metric → SD over seeds.

    ``coarse``: its rank metrics would tell small counts, see ``evaluation.result.ModelTask``.
    """

    metrics: dict[str, Estimate]
    spread: dict[str, float]
    coarse: bool = False

    def disclosed(self) -> RowTask:
        """With the digits that may be shown."""
        spread = {name: round(v, decimals(name, self.coarse)) for name, v in self.spread.items()}
        return replace(self, metrics=disclosed_metrics(self.metrics, self.coarse), spread=spread)


@dataclass(frozen=True)
class Cost:
    """Medians over a row's runs; what none of them recorded is None."""

    runs: int
    seconds: float | None
    cpu_seconds: float | None
    peak_memory_mb: float | None
    latency_ms: float | None
    parameters: float | None


@dataclass(frozen=True)
class Table:
    """One data set under one setting.

    Args:
        tasks: task → row → numbers; a row that failed or cannot run there is not in it.
        comparisons: Every row against every control, corrected per task and metric; not of the tasks of a panel of
            several, which are compared as one in ``panel_comparisons``.
        ladder: Every row against the row before it, where the layout asks for that.
        ranks: panel → metric → average ranks over its tasks × fold; "" are the tasks outside panels of several.
        cost: row → what its runs took.
        patients, samples: Scored, in the test folds together.
        patterns: task → row → numbers by pattern of the patient, where the layout asks for them.
        embedding: row → what its representation knows of the pattern, likewise.
        bayes: task → metric → what the exact risks score, where they are known.
        atlas: Who has which modality, where the layout asks for that; ``patients`` and ``samples`` are then everyone.
        panels: panel → row → numbers, with a row ``EXACT`` where the exact risks are known; which tasks a panel of
            several gathers is in ``gathered``.
        panel_comparisons: As ``comparisons``; ``task`` is the panel, corrected over rows and panels for each metric.
        gathered: panel of several tasks → its tasks.
        gaps: row → question → attribute → gaps between its groups, where the layout asks for them.
        parts: question → kind of its outcomes, or group of patients → numbers, where the layout asks for them.
        best: row that is the best of others → question → the row chosen in each fold, with the first seed.
    """

    data: str
    setting: str
    tasks: dict[str, dict[str, RowTask]]
    comparisons: tuple[Comparison, ...]
    ladder: tuple[Comparison, ...]
    ranks: dict[str, dict[str, Ranks]]
    cost: dict[str, Cost]
    patients: int
    samples: int
    patterns: dict[str, dict[str, tuple[GroupRow, ...]]] = field(default_factory=dict)
    embedding: dict[str, Embedding] = field(default_factory=dict)
    bayes: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    atlas: Atlas | None = None
    panels: dict[str, dict[str, PanelModel]] = field(default_factory=dict)
    panel_comparisons: tuple[Comparison, ...] = ()
    gathered: dict[str, tuple[str, ...]] = field(default_factory=dict)
    best: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    gaps: dict[str, dict[str, dict[str, GroupGaps]]] = field(default_factory=dict)
    parts: dict[str, dict[str, Part]] = field(default_factory=dict)

    def disclosed(self) -> Table:
        """With the digits that may be shown."""
        coarse = {(task, row) for task, rows in self.tasks.items() for row, of in rows.items() if of.coarse}

        def rounded(compared: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
            return tuple(c.disclosed(bool({(c.task, c.model), (c.task, c.control)} & coarse)) for c in compared)

        return replace(
            self,
            tasks={task: {row: of.disclosed() for row, of in rows.items()} for task, rows in self.tasks.items()},
            comparisons=rounded(self.comparisons),
            ladder=rounded(self.ladder),
            patterns={
                task: {row: tuple(g.disclosed((task, row) in coarse) for g in groups) for row, groups in rows.items()}
                for task, rows in self.patterns.items()
            },
            bayes={task: disclosed_metrics(of, False) for task, of in self.bayes.items()},
            panels={name: {r: of.disclosed() for r, of in rows.items()} for name, rows in self.panels.items()},
            panel_comparisons=tuple(disclosed_of_panel(c, self.panels) for c in self.panel_comparisons),
            gaps={
                row: {q: {a: gaps.disclosed() for a, gaps in of.items()} for q, of in questions.items()}
                for row, questions in self.gaps.items()
            },
        )


@dataclass(frozen=True)
class StudyResult:
    """Everything a study's page shows.

    Args:
        study: The resolved study.
        tables: One per data set and setting.
        refused: (data, row, why) where a method cannot run.
        failures: (label, error, traceback) of runs without a result.
        chosen: What each search chose: data, row, settings, tune loss, trials, how many of them were pruned, seconds.
        notices: What the reader must know: folds that cannot be scored, stale runs.
        provenance: Versions, and the fingerprint of each data set.
    """

    study: dict[str, Any]
    tables: tuple[Table, ...]
    refused: tuple[tuple[str, str, str], ...]
    failures: tuple[tuple[str, str, str], ...]
    chosen: tuple[dict[str, Any], ...]
    notices: tuple[str, ...]
    provenance: dict[str, Any]

    def disclosed(self) -> StudyResult:
        """With the digits that may be saved or shown."""
        return replace(self, tables=tuple(table.disclosed() for table in self.tables))

    def to_dict(self) -> dict[str, Any]:
        """JSON; numbers have the digits that may be shown."""
        return {"format": FORMAT, **asdict(self.disclosed())}

    def save(self, path: Path) -> None:
        write_text(path, json.dumps(self.to_dict(), indent=1, ensure_ascii=False, default=str))


def judge(done: Done) -> StudyResult:
    """All tables of a study whose runs are over. A row without all of its folds and seeds has no numbers.

    Raises:
        LeakageError: A scored subject was seen in fitting.
        SchemaError: Runs of one table were scored on different samples.
    """
    spec, plan = done.spec, done.plan
    runs = {key: open_run(job.folder) for key, job in plan.jobs.items() if job.finished}
    stale = [f"{done.stale} finished runs belong to other code, data or settings and are not used"] * bool(done.stale)
    fingerprints = {data.name: open_store(done.stores[data.name]).fingerprint for data in spec.data}
    return StudyResult(
        study=asdict(spec),
        tables=_availability(done) if spec.layout == "availability" else _tables(done, runs),
        refused=tuple(dict.fromkeys((c.data, c.row, c.refusal) for c in plan.cells if c.refusal)),
        failures=tuple(_failure(f) for f in done.failures),
        chosen=tuple(_chosen(data, row, record) for (data, row), record in done.searches.items()),
        notices=(*plan.notices, *stale),
        provenance={"versions": versions(), "data": fingerprints},
    )


def _tables(done: Done, runs: Mapping[str, Run]) -> tuple[Table, ...]:
    """One for each data set and setting that anything was run in; settings that share all of their runs share it."""
    tables, made = [], dict[tuple[str, ...], Table]()
    for data, setting in product(done.spec.data, done.spec.settings):
        jobs = tuple(c.job for c in done.plan.cells if (c.data, c.setting) == (data.name, setting))
        if any(job in runs for job in jobs):
            whole, row = open_store(done.stores[data.name]), _run_there(done, data.name, setting)
            key = (str(regime_of(done.spec, data, row, setting, 0, whole).tested), *jobs)
            if key not in made:
                made[key] = _table(done, runs, data.name, setting)
            tables.append(replace(made[key], setting=setting))
    return tuple(tables)


def _run_there(done: Done, data: str, setting: str) -> Row:
    """The first row that has patients there; all that do are tested on the same."""
    places = done.plan.cells
    return done.spec.row(next(c.row for c in places if (c.data, c.setting) == (data, setting) and c.job))


def _availability(done: Done) -> tuple[Table, ...]:
    """Tables without rows: who has which modality."""
    tables = []
    for data in done.spec.data:
        atlas = availability(open_store(done.stores[data.name]))
        tables.append(Table(data.name, "", {}, (), (), {}, {}, atlas.patients, atlas.samples, atlas=atlas))
    return tuple(tables)


def _chosen(data: str, row: str, record: Mapping[str, Any]) -> dict[str, Any]:
    trials = record["trials"]
    return {
        "data": data,
        "row": row,
        "settings": record["chosen"],
        "tune_loss": record["tune_loss"],
        "trials": len(trials),
        "pruned": sum(t["state"] == "pruned" for t in trials),
        "seconds": round(sum(t["seconds"] or 0.0 for t in trials), 1),
    }


def _failure(failure: Failure) -> tuple[str, str, str]:
    return failure.job.label, failure.error, failure.traceback


def _table(done: Done, runs: Mapping[str, Run], data: str, setting: str) -> Table:
    spec, whole = done.spec, open_store(done.stores[data])
    places = [c for c in done.plan.cells if (c.data, c.setting) == (data, setting) and not c.refusal]
    rows = [row for row in spec.trained if (mine := _of(places, row.name)) and all(c.job in runs for c in mine)]
    deciders = _deciders(done, data, whole)
    partly = any(runs[c.job].modalities for row in rows for c in _of(places, row.name))
    tested = list(_test_folds(done, data, setting, whole)) if partly else []
    by_seed = {
        row.name: [_joined([runs[c.job] for c in _of(places, row.name, s)], row, tested, deciders) for s in spec.seeds]
        for row in rows
    }
    if not by_seed:
        return Table(data, setting, {}, (), (), {}, {}, 0, 0)
    chosen = [row for row in spec.rows if row.best_of and all(member in by_seed for member in row.best_of)]
    best = {row.name: _best_of(row, by_seed, places, runs, spec.seeds) for row in chosen}
    rows = [*rows, *chosen]
    by_seed = _commonly_asked({**by_seed, **{name: predictions for name, (predictions, _) in best.items()}})
    first = next(iter(by_seed.values()))[0]
    for predictions in (p for seeds in by_seed.values() for p in seeds):
        same_sample(first, predictions)
    resampling = Resampling.draw(first.subject_id, spec.resamples, 0)
    found = _judged(by_seed, resampling)
    names = [row.name for row in rows]
    against = [(m, c) for c in spec.controls if c in names for m in names if m not in spec.controls]
    steps = list(zip(names[1:], names, strict=False)) if spec.layout == "ladder" else []
    several = gathered(first.panels)
    panels = _panels(by_seed, found, against, resampling)
    alone = [task for task in first.tasks if not any(task in tasks for tasks in several.values())]
    compared = {task: found.scored[task] for task in alone}
    ranked = [metric for metric in spec.metrics if metric in METRICS and len(names) > 1]
    return Table(
        data,
        setting,
        found.tasks,
        _compared(compared, against, resampling),
        _compared(compared, steps, resampling),
        {
            panel: {metric: _ranked(by_seed, tasks, metric) for metric in ranked}
            for panel, tasks in {"": alone, **several}.items()
            if tasks
        },
        {row.name: _cost([runs[c.job] for c in _of(places, row.name)]) for row in rows if not row.best_of},
        len(np.unique(first.subject_id)),
        len(first),
        _by_pattern(by_seed, resampling) if spec.layout == "configurations" else {},
        _embeddings(rows, places, runs, whole, deciders) if spec.layout == "embedding" else {},
        {task: of[EXACT].metrics for task, of in found.exact.items()},
        panels=panels.models,
        panel_comparisons=panels.comparisons,
        gathered=several,
        best={name: members for name, (_, members) in best.items()},
        gaps=_gaps(by_seed, resampling) if spec.layout == "gaps" else {},
        parts=_parts(spec, by_seed, found, against, resampling),
    )


def _parts(
    spec: StudySpec,
    by_seed: Mapping[str, Sequence[Predictions[Test]]],
    found: _Judged,
    against: Sequence[tuple[str, str]],
    resampling: Resampling,
) -> dict[str, dict[str, Part]]:
    if spec.layout == "kinds":
        return by_kind(by_seed, found.scored, against, resampling)
    return by_group(by_seed, spec.by, against, spec.resamples) if spec.layout == "groups" else {}


def _best_of(
    row: Row,
    by_seed: Mapping[str, Sequence[Predictions[Test]]],
    places: Sequence[Cell],
    runs: Mapping[str, Run],
    seeds: Sequence[int],
) -> tuple[list[Predictions[Test]], dict[str, tuple[str, ...]]]:
    """The predictions of a row that is the best of others, seed by seed; what was chosen with the first one."""
    found = [
        best_of(
            row.name,
            {member: [runs[c.job] for c in _of(places, member, seed)] for member in row.best_of},
            {member: by_seed[member][i] for member in row.best_of},
        )
        for i, seed in enumerate(seeds)
    ]
    return [predictions for predictions, _ in found], found[0][1]


class _Judged(NamedTuple):
    """By task: row → numbers, row → what was computed of it (the mean over seeds), and the same of the exact risks."""

    tasks: dict[str, dict[str, RowTask]]
    scored: dict[str, dict[str, Scored]]
    exact: dict[str, dict[str, Scored]]


def _judged(by_seed: Mapping[str, Sequence[Predictions[Test]]], resampling: Resampling) -> _Judged:
    found, exact = _Judged({}, {}, {}), _exact(by_seed)
    for task in next(iter(by_seed.values()))[0].tasks:
        numbers = {
            name: mean_over_seeds([judged(p, task, resampling) for p in seeds], name) for name, seeds in by_seed.items()
        }
        found.scored[task] = {name: mean for name, (mean, _) in numbers.items()}
        coarse = {name: is_coarse(seeds[0], found.scored[task][name]) for name, seeds in by_seed.items()}
        found.tasks[task] = {
            name: RowTask(mean.metrics, spread, coarse[name]) for name, (mean, spread) in numbers.items()
        }
        if exact is not None:
            found.exact[task] = {EXACT: judged(exact, task, resampling)}
    return found


def _exact(by_seed: Mapping[str, Sequence[Predictions[Test]]]) -> Predictions[Test] | None:
    """The exact risks of what was scored, where they are known."""
    first = next(iter(by_seed.values()))[0]
    return None if first.bayes is None else first.with_proba(first.bayes, model=EXACT)


def _panels(
    by_seed: Mapping[str, Sequence[Predictions[Test]]],
    found: _Judged,
    against: Sequence[tuple[str, str]],
    resampling: Resampling,
) -> Panels:
    """Every panel, with a row of the exact risks where they are known."""
    panels, exact = judge_panels(by_seed, found.scored, against, resampling, 0), _exact(by_seed)
    if exact is None:
        return panels
    known = judge_panels({EXACT: [exact]}, found.exact, [], resampling, 0).models
    return panels._replace(models={name: {**rows, **known[name]} for name, rows in panels.models.items()})


def _commonly_asked(by_seed: Mapping[str, Sequence[Predictions[Test]]]) -> dict[str, list[Predictions[Test]]]:
    """What not every row has learned in a fold counts for none."""
    every = iter(commonly_asked([p for seeds in by_seed.values() for p in seeds]))
    return {name: [next(every) for _ in seeds] for name, seeds in by_seed.items()}


def _deciders(done: Done, data: str, whole: PatientDataset) -> NDArray[np.uint64]:
    """Digests of the patients whose outcomes chose settings, in any row; other folds have them as test patients."""
    search = done.spec.search
    if search is None or data not in {of for of, _ in done.searches}:
        return np.empty(0, dtype=np.uint64)
    (searched,) = (d for d in done.spec.data if d.name == data)
    return whole.fold(split_of(done.spec, searched, search.fold), "tune").subjects()


def _gaps(
    by_seed: Mapping[str, Sequence[Predictions[Test]]], resampling: Resampling
) -> dict[str, dict[str, dict[str, GroupGaps]]]:
    """The first seed's gaps between groups, question by question."""
    return {
        name: {q: group_gaps(first, tasks, resampling, 0) for q, tasks in questions(first).items()}
        for name, (first, *_) in by_seed.items()
    }


def _by_pattern(
    by_seed: Mapping[str, Sequence[Predictions[Test]]], resampling: Resampling
) -> dict[str, dict[str, tuple[GroupRow, ...]]]:
    """The first seed's numbers by pattern of the patient."""
    found: dict[str, dict[str, tuple[GroupRow, ...]]] = {}
    for name, (first, *_) in by_seed.items():
        for task in first.tasks:
            p, y, asked = first.task(task)
            rows = np.flatnonzero(asked)
            groups = pattern_rows(first, rows, y[rows].astype(np.float64), p[rows], resampling)
            found.setdefault(task, {})[name] = groups
    return found


def _embeddings(
    rows: Sequence[Row],
    places: Sequence[Cell],
    runs: Mapping[str, Run],
    whole: PatientDataset,
    deciders: NDArray[np.uint64],
) -> dict[str, Embedding]:
    """Of each row that has a representation: its first run's, on that run's test fold, without the deciders."""
    found = {}
    for row in rows:
        run = runs[_of(places, row.name)[0].job]
        fold = run.regime.laid_over(whole, run.split).fold(run.split, "test")
        representation = None if run.modalities else run.predictor().represent(fold)
        if representation is not None:
            kept = ~np.isin(fold.subject_digest(), deciders)
            found[row.name] = embedding_analysis(
                representation[kept],
                fold.present[kept],
                fold.subject_id[kept],
                fold.labels[kept],
                fold.label_mask[kept],
                fold.schema.task_names,
            )
    return found


def _of(cells: Sequence[Cell], row: str, seed: int | None = None) -> list[Cell]:
    return [c for c in cells if c.row == row and seed in (None, c.seed)]


def _test_folds(done: Done, data: str, setting: str, whole: PatientDataset) -> Iterator[Fold[Test]]:
    """Of each fold, whom all rows of a table are tested on, with every modality that is not hidden there."""
    spec = done.spec
    (of,) = (d for d in spec.data if d.name == data)
    row = _run_there(done, data, setting)
    for number in folds_of(spec, of):
        regime, split = regime_of(spec, of, row, setting, number, whole), split_of(spec, of, number)
        yield regime.laid_over(whole, split).fold(split, "test")


def _joined(
    runs: Sequence[Run], row: Row, tested: Sequence[Fold[Test]], deciders: NDArray[np.uint64]
) -> Predictions[Test]:
    """The test predictions of all folds, without the deciders; of fewer modalities, held against the whole pattern.

    Args:
        tested: See ``_test_folds``.

    Raises:
        StoreError: Rectified ones are asked for and there are none.
        LeakageError: A scored subject was seen in fitting or in choosing.
    """
    parts = [run.rectified if row.rectified else run.test for run in runs]
    missing = sum(p is None for p in parts)
    if missing:
        raise StoreError(f"row '{row.name}'", "runs with a rectifier", f"{missing} without", "set rectifier.rule")
    joined = concat([p for p in parts if p is not None])
    if any(run.modalities for run in runs):
        stays = np.concatenate([fold.dataset.stay_id[fold.rows] for fold in tested])
        assert np.array_equal(stays, joined.stay_id)  # the same samples, split by the same subjects
        known = [fold.dataset.bayes[fold.rows] for fold in tested if fold.dataset.bayes is not None]
        exact = np.concatenate(known) if len(known) == len(tested) else None
        present = np.concatenate([fold.present for fold in tested])
        joined = replace(joined, modalities=tested[0].schema.modality_names, present=present, bayes=exact)
    joined = joined.without(deciders).also_fitted_on(deciders)
    joined.refuse_overlap()
    return joined


def _compared(
    scored: Mapping[str, Mapping[str, Scored]], pairs: Sequence[tuple[str, str]], resampling: Resampling
) -> tuple[Comparison, ...]:
    """(row, other) pairs on every task, with Holm's correction per task and metric."""
    found = [c for rows in scored.values() for a, b in pairs for c in compare(rows[a], rows[b], resampling, 0)]
    return correct(found)


def _ranked(by_seed: Mapping[str, Sequence[Predictions[Test]]], tasks: Sequence[str], metric: str) -> Ranks:
    """Ranks of the mean over seeds of a metric in each fold of each task."""
    table = {name: np.mean([_blocks(p, tasks, metric) for p in seeds], axis=0) for name, seeds in by_seed.items()}
    return average_ranks({k: v.tolist() for k, v in table.items()}, metric in HIGHER_IS_BETTER)


def _blocks(predictions: Predictions[Test], tasks: Sequence[str], metric: str) -> NDArray[np.float64]:
    """The metric in each fold of each task, (tasks · folds,)."""
    values = []
    for task in tasks:
        p, y, asked = predictions.task(task)
        for fold in np.unique(predictions.fold):
            mine = asked & (predictions.fold == fold)
            weight = np.ones((int(mine.sum()), 1))
            both = 0 < int(y[mine].sum()) < int(mine.sum())
            values.append(float(METRICS[metric](y[mine].astype(np.float64), p[mine])(weight)[0]) if both else np.nan)
    return np.array(values)


def _cost(runs: Sequence[Run]) -> Cost:
    median = partial(_median, runs)
    return Cost(
        len({run.folder for run in runs}),
        *(median(key) for key in ("seconds", "cpu_seconds", "peak_memory_mb", "latency_ms", "parameters")),
    )


def _median(runs: Sequence[Run], key: str) -> float | None:
    values = [float(run.record[key]) for run in runs if run.record.get(key) is not None]
    return round(statistics.median(values), 3) if values else None
