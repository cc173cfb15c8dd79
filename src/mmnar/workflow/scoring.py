"""A run in memory, and the risks it gives: whatever the door, they are made here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmnar.cohort.build import Cohort, asked_column, left_out
from mmnar.cohort.split import Split
from mmnar.dataset.gathering import Gathering
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.recipe import HASHING, Recipe
from mmnar.dataset.store import PatientDataset
from mmnar.errors import StoreError
from mmnar.estimators.base import Predictor
from mmnar.notes.encoder import TextEncoder, text_encoder
from mmnar.posthoc.base import FittedCorrection
from mmnar.predictions import Predictions, pattern_words
from mmnar.sources.table.rows import WRITTEN
from mmnar.workflow.doors import Records
from mmnar.workflow.run import Run


@dataclass(frozen=True)
class Scored:
    """Risks of new patients.

    Args:
        frame: One row a sample (see ``workflow.predict``).
        warnings: Who and what was left out, pooled or absent.
    """

    frame: pl.DataFrame
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Loaded:
    """All of a run that scoring needs, read once. Made by ``load``.

    Args:
        run: Whose it is.
        recipe: How inputs are made of records.
        predictor: The fitted model.
        line, rectifier: See ``Run``.
        encoder_here: Where its notes' encoder lies, if not where it lay then.
    """

    run: Run
    recipe: Recipe
    predictor: Predictor
    line: FittedCorrection | None
    rectifier: FittedCorrection | None
    encoder_here: str | None = None

    @cached_property
    def encoder(self) -> TextEncoder | None:
        """Of its notes.

        Raises:
            RequirementError: It is not here.
            SchemaError: It is another one.
        """
        name = self.recipe.notes
        encoder = None if name == HASHING else text_encoder(self.encoder_here or name)
        self.recipe.check_encoder(encoder)
        return encoder

    def score(
        self,
        records: Records,
        cohort: Cohort,
        place: Path,
        told: Callable[[int], None] | None = None,
    ) -> Scored:
        """Risks of whoever is asked.

        Args:
            records: ``Records.following`` the recipe.
            cohort: Who is asked, without answers.
            place: Folder for temporary files.
            told: Called with the number of notes encoded so far.

        Raises:
            SchemaError: The records are not as the run's; names what differs.
            RequirementError: The notes' encoder is not here.
        """
        how = Gathering(self.encoder, place / "cache", records.bin_hours, place, told)
        data = dataset_of(records.extract, cohort, how)
        frame = _as_written(self._frame(data, cohort.samples), records.extract.stays)
        return Scored(
            frame, (*left_out(cohort.attrition), *data.manifest["warnings"], *_nobody(data), *_regime(self.run))
        )

    def _frame(self, data: PatientDataset, samples: pl.DataFrame) -> pl.DataFrame:
        fold = data.fold(Split.external(), "test")
        self.predictor.check_schema(data.schema)
        risks, fits = self.predictor.predict_with_fits(fold)
        scored = self.predictor.predicted(fold, risks)
        fits = [self.predictor.predicted(fold, fit).proba for fit in fits]
        if self.line is not None:
            fits = [self.line.risks(scored.with_proba(fit)) for fit in fits]
            scored = scored.with_proba(self.line.risks(scored))
        columns: dict[str, Any] = {
            "subject_id": scored.subject_id,
            "hadm_id": scored.hadm_id,
            "stay_id": scored.stay_id,
            "prediction_time": pl.Series(scored.prediction_time).cast(pl.Datetime("us")),
        }
        rectified = None if self.rectifier is None else self.rectifier.risks(scored)
        for k, task in enumerate(scored.tasks):
            columns[f"{task}.risk"] = scored.proba[:, k]
            if fits:
                # a stack's risk of its methods' means may lie outside the stacks of their single fits
                every = np.stack([fit[:, k] for fit in (*fits, scored.proba)])
                columns[f"{task}.low"], columns[f"{task}.high"] = every.min(0), every.max(0)
            if rectified is not None:
                columns[f"{task}.rectified"] = rectified[:, k]
        columns["pattern"] = pattern_words(scored.present)
        names = np.array(scored.modalities)
        columns["absent"] = [",".join(names[~row]) for row in scored.present]
        columns["training_patients"] = pl.Series(_alike(self.run, scored), dtype=pl.Int64)
        frame = pl.DataFrame(columns, schema_overrides={"pattern": pl.String, "absent": pl.String})
        return frame.with_columns(
            pl.when(_has_risk(samples, task, self.predictor)).then(pl.col(name)).alias(name)
            for task in scored.tasks
            for name in frame.columns
            if name in {f"{task}.{what}" for what in ("risk", "low", "high", "rectified")}
        )


def load(run: Run, notes_encoder: str | None = None) -> Loaded:
    """A run with its model in memory.

    Args:
        notes_encoder: Where the notes' encoder of the run lies here, if not where it lay then.

    Raises:
        StoreError: The run has no recipe, or one of another version; its model knows a part of the inputs alone; or a
            file is missing or changed.
    """
    recipe, predictor = run.recipe(), run.predictor()
    if predictor.schema.digest() != recipe.schema.asking(predictor.schema.task_names).digest():
        fact = "a model of a part of them"
        raise StoreError(f"run '{run.folder.name}'", "a model of all inputs of its store", fact, "train on that store")
    return Loaded(run, recipe, predictor, run.platt(), run.rectifier(), notes_encoder)


def _regime(run: Run) -> list[str]:
    """What was hidden where the run was fitted or judged: new patients are scored as they are."""
    return [f"the run was made under a regime, these patients are scored as they are: {' '.join(run.told)}"] * bool(
        run.told
    )


def _nobody(data: PatientDataset) -> list[str]:
    absent = [name for i, name in enumerate(data.schema.modality_names) if not data.present[:, i].any()]
    return [f"modality '{name}': nobody has it" for name in absent]


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
    return [known.get(pattern) for pattern in pattern_words(scored.present)]
