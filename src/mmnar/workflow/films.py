"""Films with labels of their own → a dataset like any other: a sample is a film, outcomes are what its report finds."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.cohort.build import Cohort, label_column
from mmnar.dataset.gathering import Gathering
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.encoders.vector_weights import FILMS
from mmnar.errors import ConfigError, SourceError
from mmnar.privacy import counted
from mmnar.schema import Task
from mmnar.sources.events import EVENT_SCHEMA, Events, Extract, ImageRule, VectorRule
from mmnar.sources.mimic_iv.findings import FINDINGS, TASKS
from mmnar.sources.mimic_iv.xray import Embeddings

CODE: Final = "FILM"
"""Of the events that films are made into."""
_TAKEN: Final = datetime(2000, 1, 1)  # of films by themselves it does not matter when they were taken


def side_of(data: PatientDataset) -> int:
    """Pixels of the films of a store.

    Raises:
        ConfigError: It has no films, or of several sizes.
    """
    sides = {spec.shape[0] for spec in data.schema.modalities if spec.kind == "image"}
    if len(sides) != 1:
        fact = "none" if not sides else "of several sizes"
        raise ConfigError("--store", "a store with films of one size", fact, "prepare it with --cxr")
    return sides.pop()


def with_embeddings(
    films: pl.DataFrame, data: PatientDataset, embeddings: Embeddings
) -> tuple[pl.DataFrame, VectorRule, str]:
    """Films that have an embedding, ``row`` where it stands; how it becomes an input; and in words how many have none.

    Raises:
        ConfigError: The store has no such embeddings.
        SourceError: No film has one.
    """
    length = int(np.load(embeddings.array, mmap_mode="r").shape[1])
    theirs = {spec.name: spec.shape for spec in data.schema.modalities if spec.kind == "embedding"}
    if theirs.get(FILMS) != (length,):
        remedy = "prepare it with --cxr and --embeddings"
        raise ConfigError("--store", f"a store with embeddings of {length} numbers of films", "none", remedy)
    rows = embeddings.index.select("subject_id", "study_id", "dicom_id", "row")
    kept = films.join(rows, on=["subject_id", "study_id", "dicom_id"], how="inner", maintain_order="left")
    if kept.is_empty():
        raise SourceError("embeddings", "those of the films", "none of them", "give the folders of one release")
    lacking = films.height - kept.height
    said = f"{counted(lacking)} films left out: without an embedding" if lacking else ""
    return kept, VectorRule(FILMS, (CODE,), embeddings.array, length), said


def without(films: pl.DataFrame, subjects: NDArray[np.int64], where: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Films of all others, and in words how many that leaves out.

    Raises:
        SourceError: None is left.
    """
    kept = films.filter(~pl.col("subject_id").is_in(subjects))
    if kept.is_empty():
        remedy = "give the folder with the films of all patients"
        raise SourceError("films with labels", f"films of patients who are not {where}", "none", remedy)
    dropped = films.height - kept.height
    return kept, (f"{counted(dropped)} films left out: of patients {where}",) * (dropped > 0)


def dataset_of_films(films: pl.DataFrame, rule: ImageRule | VectorRule, id_space: str, work: Path) -> PatientDataset:
    """One sample a film; where no file can be read it lacks the modality.

    Args:
        films: See ``LabelledFilms.frame``; of vectors with ``row``.
        rule: How a film becomes an input.
        id_space: Of their subjects.
        work: A folder for films while they are gathered.
    """
    own = films.with_row_index("stay_id").with_columns(pl.col("stay_id").cast(pl.Int64), hadm_id="study_id")
    moment = pl.lit(_TAKEN, pl.Datetime("us"))
    events = own.with_columns(
        time=moment,
        available_time=moment,
        code=pl.lit(CODE),
        numeric_value=pl.lit(None),
        text_value="row" if isinstance(rule, VectorRule) else "path",
        source=pl.lit("cxr"),
    ).select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items())
    samples = own.select(
        "subject_id",
        "hadm_id",
        "stay_id",
        sample="stay_id",
        prediction_time=moment,
        since=pl.lit(None, pl.Datetime("us")),
        **{label_column(name): name for name in TASKS},
    )
    extract = Extract(
        name=id_space,
        version="",
        events=Events(events),
        stays=samples.select("subject_id", "hadm_id", "stay_id"),
        rules=(rule,),
        attributes=(),
        fingerprint="",
    )
    tasks = tuple(
        Task(name, "when the film is taken", f"{finding}, by its report")
        for name, finding in zip(TASKS, FINDINGS, strict=True)
    )
    return dataset_of(extract, Cohort(samples, tasks, ()), Gathering(folder=work))
