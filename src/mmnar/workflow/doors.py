"""The doors as functions: records in a folder → what a store is made of. ``prepare`` and ``predict`` go through the
same one, so that a run's inputs are made in one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl

from mmnar.cohort.build import Cohort, Criterion, Question, build_cohort
from mmnar.dataset.prepare import store_cohort
from mmnar.dataset.recipe import HASHING, Recipe, recipe_of
from mmnar.errors import ConfigError, SourceError
from mmnar.images.places import ImageFolder
from mmnar.notes.encoder import TextEncoder, text_encoder
from mmnar.privacy import counted
from mmnar.schema import Panel
from mmnar.sources.events import Extract, TextRule
from mmnar.sources.meds.labels import Labels
from mmnar.sources.mimic_iv.medfuse import Asked
from mmnar.sources.table.plan import TablePlan
from mmnar.sources.table.spec import TableSpec

Structured = Literal["aggregates", "series"]
SMALLEST_SIDE: Final = 32
"""Pixels: an image network halves the sides five times."""


@dataclass(frozen=True)
class Records:
    """What a door read, and whom what is asked.

    Args:
        door: Its name, that of the verb.
        options: As resolved; with other records and these options the same inputs are made again.
        extract: Events, stays and rules.
        cohort: Whether answers are looked up → who is asked.
        bin_hours: Of series.
        notes: Name of the notes' encoder, or ``hashing``.
    """

    door: str
    options: dict[str, Any]
    extract: Extract
    cohort: Callable[[Extract, bool], Cohort]
    bin_hours: float = 0.0
    notes: str = HASHING

    def encoder(self) -> TextEncoder | None:
        """
        Raises:
            RequirementError: The model cannot be found.
        """
        return None if self.notes == HASHING else text_encoder(self.notes)

    def following(self, recipe: Recipe, work: Path, encoder_here: str | None = None) -> Records:
        """The same records by the rules of a run.

        Args:
            encoder_here: Where its notes' encoder lies, if not where it lay then.

        Raises:
            SchemaError: See ``Recipe.follow``.
        """
        extract = recipe.follow(self.extract, work)
        return replace(self, extract=extract, bin_hours=recipe.bin_hours, notes=encoder_here or recipe.notes)


def write_records(
    records: Records,
    out: Path,
    *,
    like: Recipe | None = None,
    encoder_here: str | None = None,
    told: Callable[[int], None] | None = None,
) -> None:
    """A store of the records, with its recipe.

    Args:
        like: Make them by this recipe, in place of one of their own.
        encoder_here: Where the notes' encoder of ``like`` lies, if not where it lay then.

    Raises:
        SourceError, SchemaError, StoreError, RequirementError: See ``store_cohort`` and ``Records.following``.
    """
    if like is not None:
        records = records.following(like, out / "events", encoder_here)
    encoder = records.encoder()
    if like is not None:
        like.check_encoder(encoder)
    extract = records.extract
    own = partial(
        recipe_of,
        records.door,
        records.options,
        extract,
        bin_hours=records.bin_hours,
        notes=records.notes,
        encoder=encoder,
    )
    store_cohort(
        extract,
        records.cohort(extract, True),
        out,
        notes=encoder,
        bin_hours=records.bin_hours,
        told=told,
        recipe=(lambda _: like) if like is not None else own,
    )


def table(spec: TableSpec, root: Path, *, like: Recipe | None = None, answered: bool = True) -> tuple[Records, str]:
    """Own tables; and how their columns are understood, for people.

    Args:
        spec: What the columns mean; with ``like``, of these the types, words and units of the run.
        answered: False = outcomes and what is known in hindsight are not read, and need not be there.
    """
    from mmnar.sources.table import plan_table
    from mmnar.sources.table.like import columns_like, without_answers
    from mmnar.sources.table.reading import headers

    asked = spec
    if like is not None:
        stated = TableSpec.from_dict(like.options["spec"])
        asked = replace(spec, outcomes=spec.outcomes or stated.outcomes, panels=spec.panels or stated.panels)
        spec = columns_like(asked, stated, headers(asked, root))
    if not answered:
        spec = without_answers(spec)
    plan = plan_table(spec, root)
    options = {"spec": plan.resolved().to_dict()} if like is None else like.options
    return _of_table(plan, asked, options), plan.text()


def table_frame(spec: TableSpec, frame: pl.DataFrame, *, like: Recipe | None = None) -> Records:
    """A frame in memory, as ``table`` has it of a file; with a recipe, to be asked without answers.

    Args:
        like: Of these the types, words and units.

    Raises:
        SourceError: See ``plan_table``.
    """
    from mmnar.sources.table import plan_rows
    from mmnar.sources.table.like import columns_like, without_answers
    from mmnar.sources.table.reading import frame_columns

    if like is not None:
        stated = TableSpec.from_dict(like.options["spec"])
        rows = without_answers(columns_like(stated, stated, frame.columns))
        return _of_table(plan_rows(rows, frame_columns(rows, frame)), stated, like.options)
    plan = plan_rows(spec, frame_columns(spec, frame))
    return _of_table(plan, spec, {"spec": plan.resolved().to_dict()})


def table_rows(recipe: Recipe, rows: pl.DataFrame) -> Records:
    """Rows of a recipe's table in memory, to be asked without answers.

    Args:
        rows: Text by header; null = not measured. A column of inputs that is not there is absent.

    Raises:
        SourceError: See ``plan_table``.
    """
    from mmnar.sources.table import plan_rows
    from mmnar.sources.table.like import columns_like, without_answers
    from mmnar.sources.table.reading import given_columns

    stated = TableSpec.from_dict(recipe.options["spec"])
    spec = without_answers(columns_like(stated, stated, rows.columns))
    return _of_table(plan_rows(spec, given_columns(spec, rows)), stated, recipe.options)


def _of_table(plan: TablePlan, asked: TableSpec, options: dict[str, Any]) -> Records:
    from mmnar.cohort.table import table_criteria, table_questions

    cohort = _asked(table_criteria(plan.spec), table_questions(asked), asked.panels)
    return Records("table", options, plan.extract(), cohort)


def physionet2012(root: Path, *, bin_hours: float = 0.0, answered: bool = True) -> Records:
    """PhysioNet/CinC Challenge 2012.

    Args:
        answered: False = outcomes are not read, and need not be there.
    """
    from mmnar.cohort.physionet2012 import physionet2012_criteria, physionet2012_questions
    from mmnar.sources.physionet2012 import read_physionet2012

    extract = read_physionet2012(root, answered=answered)
    cohort = _asked(physionet2012_criteria(), physionet2012_questions())
    return Records("physionet2012", {}, extract, cohort, bin_hours)


def eicu(root: Path, work: Path, *, apache_prediction: bool = True) -> Records:
    """eICU-CRD 2.0."""
    from mmnar.cohort.eicu import eicu_criteria, eicu_questions
    from mmnar.sources.eicu import read_eicu

    extract = read_eicu(root, work=work, apache_prediction=apache_prediction)
    options = {"apache_prediction": apache_prediction}
    return Records("eicu", options, extract, _asked(eicu_criteria(), eicu_questions()))


def mimic_iv(
    root: Path,
    work: Path,
    *,
    notes: Path | None = None,
    cxr: Path | None = None,
    embeddings: Path | None = None,
    image_side: int = 224,
    encoder: str = HASHING,
    structured: Structured = "aggregates",
    bin_hours: float = 0.0,
    mortality_at: Literal[24, 48] = 48,
    planned: bool = True,
    limit: int | None = None,
) -> Records:
    """MIMIC-IV with notes and chest X-rays."""
    from mmnar.cohort.mimic_iv import mimic_iv_criteria, mimic_iv_questions
    from mmnar.images.tfrecord import pack_embeddings
    from mmnar.sources.mimic_iv import read_mimic_iv

    packed = pack_embeddings(embeddings, work / "embeddings") if embeddings else None
    extract = read_mimic_iv(
        root, work=work, notes=notes, cxr=cxr, embeddings=packed, image_side=image_side, structured=structured
    )
    options = {"structured": structured, "mortality_at": mortality_at, "planned": planned}
    cohort = _asked(mimic_iv_criteria(limit), mimic_iv_questions(mortality_at, planned))
    return Records("mimic-iv", options, extract, cohort, bin_hours, encoder if notes else HASHING)


def carebench(
    root: Path,
    work: Path,
    *,
    notes: Path | None = None,
    cxr: Path | None = None,
    matched: bool = False,
    phenotypes: Mapping[str, Sequence[str]] | None = None,
    side: int = 224,
    answered: bool = True,
) -> Records:
    """MIMIC-IV as CareBench asks it.

    Args:
        notes: Who has a discharge summary.
        matched: Stays with an AP film alone; a film whose file is not there is none.
        phenotypes: Their codes by another list than this package's.
        side: Pixels of the stored square.
        answered: False = billing codes need not be there.

    Raises:
        ConfigError: ``matched`` without films, or a side below 32.
        SourceError: See ``read_carebench``; or most films that ``matched`` looks for have no file.
    """
    from mmnar.cohort.carebench import carebench_criteria, carebench_panels, carebench_questions
    from mmnar.sources.mimic_iv.carebench import read_carebench

    if matched and cxr is None:
        raise ConfigError("--matched", "films to match", "no --cxr", "add --cxr, or leave --matched out")
    _check_side(side)
    extract = read_carebench(root, work=work, notes=notes, cxr=cxr, side=side, answered=answered, codes=phenotypes)
    if matched and cxr is not None:
        extract = _with_files(extract, cxr)
    criteria = carebench_criteria(notes=notes is not None, matched=matched)
    asked = _asked(criteria, carebench_questions(phenotypes), carebench_panels())
    options: dict[str, Any] = {"matched": matched}
    if phenotypes is not None:
        options["phenotypes"] = dict(phenotypes)
    return Records("carebench", options, extract, asked)


def medfuse(
    root: Path,
    work: Path,
    *,
    task: Asked = "mortality",
    cxr: Path | None = None,
    phenotypes: Mapping[str, Sequence[str]] | None = None,
    side: int = 224,
    answered: bool = True,
) -> Records:
    """MIMIC-IV as MedFuse asks it.

    Args:
        task: Which of its two questions.
        phenotypes: Their codes by another list than this package's.
        side: Pixels of the stored square.
        answered: False = billing codes are not read.

    Raises:
        ConfigError: A list of phenotypes where they are not asked, or a side below 32.
        SourceError: See ``read_medfuse``.
    """
    from mmnar.cohort.medfuse import medfuse_criteria, medfuse_panels, medfuse_questions
    from mmnar.sources.mimic_iv.medfuse import read_medfuse

    if task == "mortality" and phenotypes is not None:
        raise ConfigError("--phenotypes", "--task phenotypes", "--task mortality", "leave it out")
    _check_side(side)
    extract = read_medfuse(root, work=work, asked=task, cxr=cxr, side=side, answered=answered, codes=phenotypes)
    asked = _asked(medfuse_criteria(task), medfuse_questions(task, phenotypes), medfuse_panels(task))
    options: dict[str, Any] = {"task": task}
    if phenotypes is not None:
        options["phenotypes"] = dict(phenotypes)
    return Records("medfuse", options, extract, asked)


def _check_side(side: int) -> None:
    if side < SMALLEST_SIDE:
        raise ConfigError("--image-side", f"{SMALLEST_SIDE} pixels or more", str(side), "64 is small, 224 the paper's")


def _with_files(extract: Extract, cxr: Path) -> Extract:
    """Films whose files are not there are none.

    Raises:
        SourceError: Most of them are not.
    """
    films = extract.stays["film"]
    folder = ImageFolder(cxr)
    there = films.map_elements(lambda path: folder.find(path) is not None, return_dtype=pl.Boolean)
    absent = int((~there).sum())
    if 2 * absent > len(films.drop_nulls()):
        fact, remedy = "fewer than half of them", "give the folder that holds 'files', or complete the download"
        raise SourceError(f"films in '{cxr}'", "the files that its records name", fact, remedy)
    note = (f"films: {counted(absent)} unit stays whose latest AP film has no file: taken as without a film",)
    stays = extract.stays.with_columns(film=films.set(~there.fill_null(True), None))
    return replace(extract, stays=stays, warnings=(*extract.warnings, *note * (absent > 0)))


def _asked(
    criteria: tuple[Criterion, ...], questions: tuple[Question, ...], panels: tuple[Panel, ...] = ()
) -> Callable[[Extract, bool], Cohort]:
    return lambda extract, answered: build_cohort(extract, criteria, questions, panels=panels, answered=answered)


def meds(
    root: Path,
    labels: Labels,
    work: Path,
    *,
    modalities: Path | None = None,
    since_days: float | None = None,
    bin_hours: float = 0.0,
    encoder: Callable[[], str] = lambda: HASHING,
    like: Recipe | None = None,
) -> Records:
    """Any MEDS data set.

    Args:
        like: By the modalities of this recipe.
        encoder: Asked for the name of the notes' encoder where there are notes.
    """
    from mmnar.sources.meds import read_meds

    extract = read_meds(
        root, work=work, labels=labels, modalities=modalities, rules=like.rules if like else (), since_days=since_days
    )
    notes = encoder() if any(isinstance(rule, TextRule) for rule in extract.rules) else HASHING
    return Records("meds", {"since_days": since_days}, extract, _labelled(labels), bin_hours, notes)


def _labelled(labels: Labels) -> Callable[[Extract, bool], Cohort]:
    from mmnar.cohort.meds import labelled_cohort, unanswered_cohort

    def cohort(extract: Extract, answered: bool) -> Cohort:
        return labelled_cohort(extract, labels) if answered else unanswered_cohort(extract, labels.tasks)

    return cohort


def meds_at(root: Path, work: Path, recipe: Recipe, times: pl.DataFrame, zoned: bool) -> Records:
    """A MEDS data set, asked at stated moments; ``zoned``: those were written with a zone."""
    from mmnar.sources.meds.labels import unanswered

    asked = unanswered([task.name for task in recipe.tasks], times, zoned)
    return meds(root, asked, work, since_days=recipe.options["since_days"], bin_hours=recipe.bin_hours, like=recipe)


def meds_rows(recipe: Recipe, events: pl.DataFrame, times: pl.DataFrame) -> Records:
    """Events of a few subjects in memory, asked at stated moments without answers.

    Args:
        events: See ``meds_in_memory``.
        times: ``subject_id`` (int64), ``prediction_time`` (datetime[us], without a zone), each once.

    Raises:
        SourceError: See ``read_meds``.
    """
    from mmnar.sources.meds import meds_in_memory
    from mmnar.sources.meds.labels import unanswered

    asked = unanswered([task.name for task in recipe.tasks], times, False)
    extract = meds_in_memory(events, asked, recipe.rules, recipe.options["since_days"])
    return Records("meds", recipe.options, extract, _labelled(asked), recipe.bin_hours, recipe.notes)


def again(
    recipe: Recipe,
    root: Path,
    work: Path,
    *,
    notes: Path | None = None,
    cxr: Path | None = None,
    embeddings: Path | None = None,
) -> Records:
    """Other records by the door and options of a recipe, to be asked without answers."""
    options = dict(recipe.options)
    if recipe.door == "mimic-iv":
        return mimic_iv(
            root,
            work,
            notes=notes,
            cxr=cxr,
            embeddings=embeddings,
            encoder=recipe.notes,
            bin_hours=recipe.bin_hours,
            **options,
        )
    if recipe.door == "carebench":
        return carebench(root, work, cxr=cxr, answered=False, **options)
    if recipe.door == "medfuse":
        return medfuse(root, work, cxr=cxr, answered=False, **options)
    if recipe.door == "physionet2012":
        return physionet2012(root, bin_hours=recipe.bin_hours, answered=False)
    return eicu(root, work, **options)


def asked_at(extract: Extract, recipe: Recipe, times: pl.DataFrame) -> Cohort:
    """Whoever is asked at moments of the user's own, in place of the door's.

    Args:
        times: ``subject_id``, ``prediction_time``.

    Raises:
        SourceError: A subject is not among the records, or a moment lies in none of the subject's stays.
    """
    from mmnar.cohort.times import samples_at

    return samples_at(extract, recipe.schema, times)
