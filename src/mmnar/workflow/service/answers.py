"""Risks of one request as plain values; what is refused is a value too, with its reason."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmnar.cohort.build import Cohort
from mmnar.dataset.features import implausible, ranges
from mmnar.dataset.recipe import Recipe
from mmnar.errors import ConfigError
from mmnar.predictions import pattern_words
from mmnar.progress import say
from mmnar.sources.events import FeatureRule
from mmnar.workflow.doors import Records
from mmnar.workflow.run import Run
from mmnar.workflow.scoring import Loaded, load
from mmnar.workflow.service.events import of_events
from mmnar.workflow.service.requests import Patient, Question
from mmnar.workflow.service.rows import of_rows

USE: Final = "research use only; not a medical device"
SPREAD: Final = "least and largest risk of the run's fits: their disagreement, no confidence interval"
NOT_ASKED: Final = "the run does not ask this at this time"
NOT_LEARNED: Final = "the run has not learned this task"
LEFT_OUT: Final = "left out when the records were read: see the notes"
NEVER_SEEN: Final = "none of the training patients had this pattern of modalities"
FEW: Final = "fewer than 10 training patients have this pattern"
FEW_OR_NONE: Final = "fewer than 10 training patients have this pattern, or none"

_DOORS: Final[Mapping[str, Callable[[Mapping[str, Any], Recipe], Question]]] = {"table": of_rows, "meds": of_events}


@dataclass(frozen=True)
class Answer:
    """
    Args:
        content: The answer, plain JSON.
        who: Of each patient, see ``Patient``.
    """

    content: dict[str, Any]
    who: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Scorer:
    """Answers by one run. Made by ``scorer_of``.

    Args:
        loaded: The run.
        place: Folder for temporary files.
        seen: Every pattern that a training patient had; None = not known.
    """

    loaded: Loaded
    place: Path
    seen: frozenset[str] | None

    def answer(self, body: Mapping[str, Any]) -> Answer:
        """
        Raises:
            SourceError, SchemaError: The records cannot be read as the run's were.
        """
        recipe = self.loaded.recipe
        question = _DOORS[recipe.door](body, recipe)
        rows, outside, notes = self._scored(question.records, question.key)
        patients = [self._patient(patient, rows.get(patient.key), outside) for patient in question.patients]
        content = {
            "run": self.loaded.run.folder.name,
            "use": USE,
            "modalities": list(recipe.schema.modality_names),
            "patients": patients,
            "notes": notes,
            "spread_is": SPREAD,
        }
        return Answer(content, tuple(patient.who for patient in question.patients))

    def _scored(
        self, records: Records | None, key: tuple[str, ...]
    ) -> tuple[dict[tuple[Any, ...], dict[str, Any]], dict[int, str], list[str]]:
        """Key → row of risks; stay → values that are out of range, in words; notes."""
        if records is None:
            return {}, {}, []
        with self._room() as place:
            records = records.following(self.loaded.recipe, place, self.loaded.encoder_here)
            cohort = records.cohort(records.extract, False)
            scored = self.loaded.score(records, cohort, place)
        rows = {tuple(row[name] for name in key): row for row in scored.frame.iter_rows(named=True)}
        return rows, _outside(records, cohort), list(scored.warnings)

    @contextmanager
    def _room(self) -> Iterator[Path]:
        """Of one request: an encoder of notes keeps its vectors in files, which nobody may find after it."""
        if self.loaded.encoder is None:
            yield self.place
            return
        with tempfile.TemporaryDirectory(dir=self.place) as folder:
            yield Path(folder)

    def _patient(self, patient: Patient, row: Mapping[str, Any] | None, outside: Mapping[int, str]) -> dict[str, Any]:
        """One patient's answer."""
        tasks = self.loaded.recipe.schema.task_names
        told = {**patient.shown, **(patient.told or {})}
        if patient.refused or row is None:
            refused = {"refused": patient.refused or LEFT_OUT}
            return {**told, "tasks": dict.fromkeys(tasks, refused), "pattern": None, "absent": None}
        known, pattern = row["training_patients"], row["pattern"]
        reason = outside.get(row["stay_id"], "")
        if self.seen is not None and pattern not in self.seen:
            reason = reason or NEVER_SEEN
        return {
            **told,
            "tasks": {task: {"refused": reason} if reason else self._task(row, task) for task in tasks},
            "pattern": pattern,
            "absent": row["absent"].split(",") if row["absent"] else [],
            "training_patients": known,
            "training_patients_are": self._alike(known, pattern),
        }

    def _alike(self, known: int | None, pattern: str) -> str:
        if known is not None:
            return "with this pattern"
        if self.seen is None:
            return FEW_OR_NONE
        return FEW if pattern in self.seen else NEVER_SEEN

    def _task(self, row: Mapping[str, Any], task: str) -> dict[str, Any]:
        risk = row.get(f"{task}.risk")
        if risk is None or not math.isfinite(risk):
            learned = task in self.loaded.predictor.schema.task_names
            return {"refused": NOT_ASKED if learned else NOT_LEARNED}
        low, high = row.get(f"{task}.low"), row.get(f"{task}.high")
        spread = None if low is None else [low, high]
        return {"risk": risk, "rectified": row.get(f"{task}.rectified"), "spread": spread}


def scorer_of(run: Run, place: Path, notes_encoder: str | None = None) -> Scorer:
    """
    Args:
        place: Folder for temporary files.
        notes_encoder: Where the run's notes' encoder lies here, if not where it lay then.

    Raises:
        ConfigError: A run of another door.
        StoreError, RequirementError, SchemaError: The run or its notes' encoder is not whole, or not here.
    """
    loaded = load(run, notes_encoder)
    if loaded.recipe.door not in _DOORS:
        fact = f"one of `prepare {loaded.recipe.door}`, whose cohort and moments are read from tables beside the events"
        remedy = "use mmnar predict --root, or prepare the store by `prepare meds`"
        raise ConfigError(f"run '{run.folder.name}'", "one on a table or on MEDS", fact, remedy)
    if loaded.encoder is not None:
        say(f"notes: vectors of '{loaded.recipe.notes}'")
    learned = run.calibration()
    seen = None
    if learned is not None:
        seen = frozenset(pattern_words(learned.present))
    return Scorer(loaded, place, seen)


def _outside(records: Records, cohort: Cohort) -> dict[int, str]:
    """Stay → values outside the run's plausible ranges, in words."""
    found: dict[int, str] = {}
    ranged = ranges(records.extract.rules)
    if not ranged:
        return found
    for events, part in records.extract.events.parts(cohort.samples):
        for place, rules in implausible(events.before(part), ranged).items():
            found[part["stay_id"][place]] = "; ".join(map(_in_words, rules))
    return found


def _in_words(rule: FeatureRule) -> str:
    low, high = ("any" if bound is None else f"{bound:g}" for bound in (rule.low, rule.high))
    unit = f" {rule.unit}" if rule.unit else ""
    return f"'{rule.feature}' lies outside the run's plausible range, {low} to {high}{unit}: is it in another unit?"
