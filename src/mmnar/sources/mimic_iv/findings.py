"""Films of MIMIC-CXR with the 14 labels that CheXpert or NegBio found in their reports.

A label is 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned). What is uncertain or not mentioned is not
known: it is masked, never taken as absent. "No Finding" is not read in the report but follows from the others: it is 1
where none of them, support devices aside, is present or uncertain, else blank. So beside a 1 there what is not
mentioned is absent, and blank beside a finding that is present it is 0.

All views are read, for an encoder is meant to know films. Source: Johnson et al. 2019, doi:10.1038/s41597-019-0322-0;
Irvin et al. 2019, doi:10.1609/aaai.v33i01.3301590.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.mimic_iv.cxr import all_films
from mmnar.sources.reading.raw import DataRoot

Labeller = Literal["chexpert", "negbio"]
FINDINGS: Final = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture"),
    *("Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax"),
    "Support Devices",
)
TREATMENT: Final = (
    "present and absent as told; uncertain and unmentioned unknown, but unmentioned in a film without findings absent"
)
NONE: Final = "no_finding"
DEVICES: Final = "support_devices"


def task_name(finding: str) -> str:
    """
    >>> task_name("Lung Opacity")
    'lung_opacity'
    """
    return finding.lower().replace(" ", "_")


TASKS: Final = tuple(task_name(finding) for finding in FINDINGS)
_NAMED: Final = tuple(zip(FINDINGS, TASKS, strict=True))
_FOUND: Final = tuple(name for name in TASKS if name not in (NONE, DEVICES))


@dataclass(frozen=True)
class LabelledFilms:
    """
    Args:
        frame: One row a film, by subject and path: ``subject_id``, ``study_id`` (int64), ``dicom_id``, ``path``
            relative to the folder, and a nullable Boolean column for each of ``TASKS``; each film has a label that is
            known.
        left_out: What was left out, with counts.
    """

    frame: pl.DataFrame
    left_out: tuple[str, ...]


def labelled_films(data: DataRoot, labeller: Labeller) -> LabelledFilms:
    """Films of all views of all patients that have a label.

    Args:
        data: The folder of MIMIC-CXR-JPG, with the metadata and the table of labels.

    Raises:
        SourceError: A table is absent or damaged, a study has two rows of labels, or no film has a label.
    """
    films, notes = all_films(data)
    table = f"mimic-cxr-2.0.0-{labeller}"
    left_out: Counter[str] = Counter()
    labels = _labels(data, table, left_out)
    joined = films.join(labels, on=["subject_id", "study_id"], how="left", maintain_order="left")
    known = joined.filter(pl.any_horizontal(pl.col(TASKS).is_not_null()))
    left_out[f"films without a label in '{table}' that is known"] += joined.height - known.height
    if known.is_empty():
        fact, remedy = "none", "give the folder with the labels of the same release"
        raise SourceError(f"labels '{table}'", "a label of some film, 1 or 0", fact, remedy)
    words = (f"{counted(n)} {what}" for what, n in left_out.items() if n)
    return LabelledFilms(known.sort("subject_id", "path"), (*notes, *words))


def _labels(data: DataRoot, table: str, left_out: Counter[str]) -> pl.DataFrame:
    """``subject_id, study_id`` (distinct) and the 14 labels."""
    columns: dict[str, pl.DataType] = {"subject_id": pl.Int64(), "study_id": pl.Int64()}
    raw = data.read(table, columns | {finding.lower(): pl.Float64() for finding in FINDINGS})
    assert raw is not None
    raw = raw.drop_nulls(["subject_id", "study_id"])
    repeated = raw.height - raw.select("subject_id", "study_id").n_unique()
    if repeated:
        fact = f"{counted(repeated)} repeated"
        raise SourceError(f"labels '{table}'", "one row for each study", fact, "give the table as released")
    numbers = pl.col([finding.lower() for finding in FINDINGS])
    odd = raw.select(pl.sum_horizontal((numbers.is_not_null() & ~numbers.is_in([1.0, 0.0, -1.0])).sum())).item()
    left_out[f"labels in '{table}' that are neither 1, 0 nor -1: taken as unknown"] += int(odd)
    normal = pl.col(NONE.replace("_", " ")).fill_null(0) == 1
    told = raw.select("subject_id", "study_id", *(_known(finding, name, normal) for finding, name in _NAMED))
    found = pl.any_horizontal(pl.col(name).fill_null(False) for name in _FOUND)
    return told.with_columns(pl.when(pl.col(NONE).is_null() & found).then(False).otherwise(NONE).alias(NONE))


def _known(finding: str, name: str, normal: pl.Expr) -> pl.Expr:
    """A column of labels as Boolean, null where it is not known."""
    told = pl.col(finding.lower())
    known = pl.when(told.is_in([1.0, 0.0])).then(told == 1)
    return (known.when(normal & told.is_null()).then(False) if name in _FOUND else known).alias(name)
