"""Risks of patients whose outcome is not known: records by the run's own recipe, scored by the run's model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from mmnar.cohort.build import asked_column, left_out
from mmnar.cohort.split import Split
from mmnar.dataset.gathering import Gathering
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.recipe import Recipe
from mmnar.dataset.store import PatientDataset
from mmnar.errors import ConfigError, SourceError, StoreError
from mmnar.estimators.base import Predictor
from mmnar.files import write_whole
from mmnar.parquet import save
from mmnar.predictions import Predictions
from mmnar.privacy import counted
from mmnar.progress import say
from mmnar.sources.table.rows import WRITTEN
from mmnar.sources.table.spec import TableSpec
from mmnar.workflow import doors
from mmnar.workflow.doors import Records
from mmnar.workflow.run import Run

_BESIDE: Final = {"mimic-iv": ("notes", "cxr", "embeddings"), "carebench": ("cxr",), "medfuse": ("cxr",)}
"""Door → what may be given beside its records. Notes tell CareBench who is documented: hindsight."""


@dataclass(frozen=True)
class Scored:
    """Risks of new patients.

    Args:
        frame: One row a sample (see ``predict``).
        warnings: Who and what was left out, pooled or absent.
    """

    frame: pl.DataFrame
    warnings: tuple[str, ...]


def predict(
    run: Run,
    *,
    root: Path | None = None,
    events: Path | None = None,
    table: Path | None = None,
    at: Path | None = None,
    notes: Path | None = None,
    cxr: Path | None = None,
    embeddings: Path | None = None,
    notes_encoder: str | None = None,
    work: Path | None = None,
    told: Callable[[int], None] | None = None,
) -> Scored:
    """Score records whose outcome is not known; no label is read, and rules of hindsight are not applied.

    ``frame``: ``subject_id, hadm_id, stay_id, prediction_time``, and of a table ``subject`` and ``sample`` as written
    there; of each task ``<task>.risk``, ``<task>.low`` and ``<task>.high`` (least and largest of the risk and of those
    of the run's fits, where there are several), ``<task>.rectified`` where the run has a rectifier, all null where the
    door does not ask the task at that moment; ``pattern`` and ``absent`` (names, separated by commas);
    ``training_patients``: how many with the same pattern the run learned from, null below ten.

    Args:
        root: Raw records of the run's door.
        events: A MEDS data set, of a run on one.
        table: A file with the columns of the run's table.
        at: Parquet file of ``subject_id, prediction_time``, in place of the door's own moments.
        notes, cxr, embeddings: Beside ``root``, of a run on MIMIC-IV; a modality whose folder is not given is absent.
        notes_encoder: Where the notes' encoder of the run lies here, if not where it lay then.
        work: Folder for a temporary one, which may grow as large as the records; default: the system's.
        told: Called with the number of notes encoded so far.

    Raises:
        ConfigError: Not one of ``root``, ``events`` and ``table``, or not the run's kind.
        SourceError, SchemaError: The records cannot be read as the run's were; names what differs.
        StoreError: The run has no recipe, or one of another version.
        RequirementError: The notes' encoder is not here.
    """
    recipe = run.recipe()
    predictor = run.predictor()
    if predictor.schema.digest() != recipe.schema.asking(predictor.schema.task_names).digest():
        fact = "a model of a part of them"
        raise StoreError(f"run '{run.folder.name}'", "a model of all inputs of its store", fact, "train on that store")
    with tempfile.TemporaryDirectory(prefix=".tmp-mmnar-", dir=work) as folder:
        place = Path(folder)
        beside = {"notes": notes, "cxr": cxr, "embeddings": embeddings}
        records, times = _records(recipe, place, {"--root": root, "--events": events, "--table": table}, at, beside)
        records = records.following(recipe, place, notes_encoder)
        extract = records.extract
        cohort = records.cohort(extract, False) if times is None else doors.asked_at(extract, recipe, times)
        encoder = records.encoder()
        recipe.check_encoder(encoder)
        how = Gathering(encoder, place / "cache", records.bin_hours, place, told)
        data = dataset_of(extract, cohort, how)
        say(f"scoring {counted(len(data))} samples")
        frame = _as_written(_frame(run, predictor, data, cohort.samples), extract.stays)
        return Scored(frame, (*left_out(cohort.attrition), *data.manifest["warnings"], *_nobody(data), *_regime(run)))


def _regime(run: Run) -> list[str]:
    """What was hidden where the run was fitted or judged: new patients are scored as they are."""
    return [f"the run was made under a regime, these patients are scored as they are: {' '.join(run.told)}"] * bool(
        run.told
    )


def _nobody(data: PatientDataset) -> list[str]:
    absent = [name for i, name in enumerate(data.schema.modality_names) if not data.present[:, i].any()]
    return [f"modality '{name}': nobody has it" for name in absent]


def write_risks(scored: Scored, out: Path) -> None:
    """One Parquet file, whole or not at all.

    Raises:
        OSError: It cannot be written there.
    """
    write_whole(out, partial(save, scored.frame))


def _records(
    recipe: Recipe,
    work: Path,
    given: Mapping[str, Path | None],
    at: Path | None,
    beside: Mapping[str, Path | None],
) -> tuple[Records, pl.DataFrame | None]:
    """What was read, and moments of the user's own."""
    wanted = {"table": "--table", "meds": "--events"}.get(recipe.door, "--root")
    takes = _BESIDE.get(recipe.door, ())
    extra = [f"--{name}" for name, path in beside.items() if path is not None and name not in takes]
    if extra:
        raise ConfigError(", ".join(extra), "a run on MIMIC-IV", f"one on '{recipe.door}'", "leave them out")
    place = given[wanted]
    if place is None or sum(path is not None for path in given.values()) != 1:
        raise ConfigError(
            f"records of a run on '{recipe.door}'",
            f"{wanted} alone",
            ", ".join(name for name, path in given.items() if path is not None) or "none",
            f"add {wanted}" if place is None else f"give {wanted} alone",
        )
    times, zoned = (None, False) if at is None else _moments(at)
    if zoned and recipe.door != "meds":
        fact = "times with one"
        raise SourceError("moments (--at)", "times without a zone, as the records'", fact, "write the records' clock")
    if recipe.door == "table":
        if times is not None:
            raise ConfigError("--at", "a door without its own moments", "a table, whose rows have them", "leave it out")
        spec = TableSpec.from_dict(recipe.options["spec"])
        spec = TableSpec.from_dict({**spec.to_dict(), "files": [place.name]})
        read, _ = doors.table(spec, place.parent, like=recipe, answered=False)
    elif recipe.door == "meds":
        if times is None:
            raise ConfigError("--at", "moments to ask at: a MEDS data set has none", "none", "add --at TIMES.parquet")
        read, times = doors.meds_at(place, work / "events", recipe, times, zoned), None
    else:
        read = doors.again(recipe, place, work / "events", **beside)
    return read, times


def _moments(path: Path) -> tuple[pl.DataFrame, bool]:
    """Moments, and whether they name a zone."""
    from mmnar import parquet
    from mmnar.cohort.times import check_moments, has_zone

    if not path.is_file():
        raise SourceError(f"moments '{path.name}'", "a Parquet file", "none", "check --at")
    try:
        times = parquet.read(path)
    except parquet.UnreadableError as error:
        fact = parquet.kind_of(error)
        raise SourceError(f"moments '{path.name}'", "a Parquet file", fact, "write it again") from None
    return check_moments(times), has_zone(times)


def _frame(run: Run, predictor: Predictor, data: PatientDataset, samples: pl.DataFrame) -> pl.DataFrame:
    fold = data.fold(Split.external(), "test")
    predictor.check_schema(data.schema)
    risks, fits = predictor.predict_with_fits(fold)
    scored = predictor.predicted(fold, risks)
    fits = [predictor.predicted(fold, fit).proba for fit in fits]
    line, rectifier = run.platt(), run.rectifier()
    if line is not None:
        fits = [line.risks(scored.with_proba(fit)) for fit in fits]
        scored = scored.with_proba(line.risks(scored))
    columns: dict[str, Any] = {
        "subject_id": scored.subject_id,
        "hadm_id": scored.hadm_id,
        "stay_id": scored.stay_id,
        "prediction_time": pl.Series(scored.prediction_time).cast(pl.Datetime("us")),
    }
    rectified = None if rectifier is None else rectifier.risks(scored)
    for k, task in enumerate(scored.tasks):
        columns[f"{task}.risk"] = scored.proba[:, k]
        if fits:
            # a stack's risk of its methods' means may lie outside the stacks of their single fits
            every = np.stack([fit[:, k] for fit in (*fits, scored.proba)])
            columns[f"{task}.low"], columns[f"{task}.high"] = every.min(0), every.max(0)
        if rectified is not None:
            columns[f"{task}.rectified"] = rectified[:, k]
    columns["pattern"] = ["".join("01"[bit] for bit in row) for row in scored.present.astype(int)]
    names = np.array(scored.modalities)
    columns["absent"] = [",".join(names[~row]) for row in scored.present]
    columns["training_patients"] = pl.Series(_alike(run, scored), dtype=pl.Int64)
    frame = pl.DataFrame(columns, schema_overrides={"pattern": pl.String, "absent": pl.String})
    return frame.with_columns(
        pl.when(_has_risk(samples, task, predictor)).then(pl.col(name)).alias(name)
        for task in scored.tasks
        for name in frame.columns
        if name in {f"{task}.{what}" for what in ("risk", "low", "high", "rectified")}
    )


def _has_risk(samples: pl.DataFrame, task: str, predictor: Predictor) -> pl.Series:
    """Where a task is asked of a sample and the run has learned it."""
    learned = pl.Series(np.full(samples.height, task in predictor.schema.task_names))
    return learned & samples[asked_column(task)] if asked_column(task) in samples.columns else learned


def _as_written(frame: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """With the identifiers of a table as it writes them: ours of words are hashes, which nobody can look up."""
    own = [name for name in stays.columns if name.startswith(WRITTEN)]
    if not own:
        return frame
    words = stays.select("stay_id", *(pl.col(name).alias(name.removeprefix(WRITTEN)) for name in own))
    rest = frame.columns[3:]
    whole = frame.join(words, on="stay_id", how="left", maintain_order="left")
    return whole.select("subject_id", "hadm_id", "stay_id", *words.columns[1:], *rest)


def _alike(run: Run, scored: Predictions[Any]) -> list[int | None]:
    """Patients of each row's pattern among those learned from; None below ten."""
    known = run.record["patterns"]
    return [known.get("".join("01"[bit] for bit in row)) for row in scored.present.astype(int)]
