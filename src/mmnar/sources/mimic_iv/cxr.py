"""MIMIC-CXR metadata → events: when a frontal chest X-ray was taken, and where its image or embedding is.

**Time.** ``StudyDate`` (yyyymmdd) and ``StudyTime`` (HHMMSS.fff as a number, so leading zeros are lost: 80556.875 is
08:05:56.875). An image without a date and a clock time that exist has no place in time; it is dropped and counted.

**Availability.** The time of the study: the image is on the ward's screen once it is taken. What a radiologist wrote
about it comes later and is a note, with its own time.

**Choice.** Frontal images only (``ViewPosition`` AP or PA). One image per study: the latest; of images of one time a PA
before an AP one (in AP, mostly bedside, the heart is magnified), then the first ``dicom_id``. A study whose chosen
image is later than a prediction time contributes nothing to it, which loses an image and never leaks one.

File names keep ``2.0.0`` in release 2.1.0. Source: Johnson et al. 2019, doi:10.1038/s41597-019-0322-0; MIMIC-CXR-JPG
2.1.0, doi:10.13026/jsn5-t979.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.events import EVENT_SCHEMA
from mmnar.sources.reading.raw import DataRoot

METADATA: Final = "mimic-cxr-2.0.0-metadata"
CODES: Final = ("CXR//AP", "CXR//PA")
BEDSIDE: Final = ("AP", "AP SUPINE", "AP ERECT", "AP SEMI ERECT")
"""View positions, in capitals, of frontal films taken from the front."""
_OTHERS: Final = (
    *("PA", "LATERAL", "LL", "L", "RL", "LAO", "RAO", "LPO", "RPO", "XTABLE LATERAL", "SWIMMERS"),
    *("AP AXIAL", "AP LLD", "AP RLD", "PA LLD", "PA RLD"),
)
"""View positions that are known and no such film: from behind, from the side, oblique, tilted, lying on one side."""

_COLUMNS: Final[dict[str, pl.DataType]] = {
    "dicom_id": pl.String(),
    "subject_id": pl.Int64(),
    "study_id": pl.Int64(),
    "viewposition": pl.String(),
    "studydate": pl.Int64(),
    "studytime": pl.Float64(),
}


def cxr_events(root: Path | DataRoot, subjects: pl.Series) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """One event per study of these subjects: its frontal image.

    Args:
        root: The MIMIC-CXR-JPG folder, with ``mimic-cxr-2.0.0-metadata``; or a ``DataRoot`` of it, whose fingerprint
            then covers the table.
        subjects: The subject_ids to read, int64.

    Returns:
        Events (``EVENT_SCHEMA``, by subject and time; ``text_value`` is the image's path relative to the folder), and
        what was dropped, with counts. Whether the image files are there is not looked at.

    Raises:
        SourceError: The table is absent, damaged, lacks a column, or repeats a ``dicom_id``.
    """
    dropped: Counter[str] = Counter()
    metadata = _metadata(root).filter(pl.col("subject_id").is_in(subjects.unique().implode()))
    images = _one_per_study(_timed(_frontal(_named(metadata, dropped), dropped), dropped), dropped)
    return _events(images, _path()), _notes(dropped)


def bedside_events(root: Path | DataRoot, subjects: pl.Series) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """One event per AP film of these subjects: every film, so that a later one of a study hides none.

    Args:
        root, subjects: As in ``cxr_events``.

    Returns:
        As of ``cxr_events``; no event at all where there is no such film.

    Raises:
        SourceError: As ``cxr_events``.
    """
    dropped: Counter[str] = Counter()
    metadata = _metadata(root).filter(pl.col("subject_id").is_in(subjects.unique().implode()))
    images = _timed(_bedside(_named(metadata, dropped), dropped), dropped).sort("subject_id", "time", "dicom_id")
    return _events(images, _path()), _notes(dropped)


def all_films(root: Path | DataRoot) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """``subject_id, study_id, dicom_id, path`` of every film of any view and patient; what was dropped, with counts.

    Raises:
        SourceError: As ``cxr_events``.
    """
    dropped: Counter[str] = Counter()
    images = _named(_metadata(root), dropped)
    return images.select("subject_id", "study_id", "dicom_id", path=_path()), _notes(dropped)


def cxr_embedding_events(root: Path | DataRoot, index: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """One event per study that has an embedding of a frontal image.

    Args:
        root: Folder with ``mimic-cxr-2.0.0-metadata`` (the embedding set has no times of its own), or a ``DataRoot``.
        index: ``dicom_id`` (string, distinct), ``study_id``, ``subject_id``, ``row`` (int64): what image each row of
            the array of embeddings was made from. Only these images are chosen among.

    Returns:
        Events as of ``cxr_events``, but ``text_value`` is the number of a row, and what was dropped, with counts.

    Raises:
        SourceError: As ``cxr_events``; or ``index`` repeats a ``dicom_id``.
    """
    repeated = index.height - index["dicom_id"].n_unique()
    if repeated:
        raise SourceError("index of embeddings", "each dicom_id once", f"{repeated} repeated", "pack them again")
    dropped: Counter[str] = Counter()
    owners = index.select("dicom_id", "row", owner="subject_id", study="study_id")
    known = owners.join(_metadata(root), on="dicom_id", how="inner")
    dropped["embeddings without a row in the metadata, so without a time"] += owners.height - known.height
    agreeing = known.filter((pl.col("owner") == pl.col("subject_id")) & (pl.col("study") == pl.col("study_id")))
    dropped["embeddings whose folders name another subject or study than the metadata"] += (
        known.height - agreeing.height
    )
    images = _one_per_study(_timed(_frontal(_named(agreeing, dropped), dropped), dropped), dropped)
    return _events(images, pl.col("row").cast(pl.String)), _notes(dropped)


def _metadata(root: Path | DataRoot) -> pl.DataFrame:
    data = root if isinstance(root, DataRoot) else DataRoot(root)
    frame = data.read(METADATA, _COLUMNS, key="dicom_id")
    if frame is None or frame.is_empty():
        raise SourceError(f"table '{METADATA}'", "at least one image", "none", "check the data root")
    return frame


def _path() -> pl.Expr:
    """Where an image lies, relative to the folder."""
    subject = pl.col("subject_id").cast(pl.String)
    return pl.concat_str(
        *(pl.lit("files/p"), subject.str.head(2), pl.lit("/p"), subject, pl.lit("/s"), pl.col("study_id")),
        *(pl.lit("/"), pl.col("dicom_id"), pl.lit(".jpg")),
    )


def _named(metadata: pl.DataFrame, dropped: Counter[str]) -> pl.DataFrame:
    """Images whose ids make a path."""
    named = metadata.filter(
        pl.col("subject_id").is_not_null()
        & pl.col("study_id").is_not_null()
        & pl.col("dicom_id").str.contains(r"^[0-9A-Za-z][0-9A-Za-z._-]*$")
    )
    dropped["images without subject_id, study_id or a dicom_id that can be a file's name"] += (
        metadata.height - named.height
    )
    return named


def _frontal(named: pl.DataFrame, dropped: Counter[str]) -> pl.DataFrame:
    """Images whose view is AP or PA."""
    view = pl.col("viewposition").str.to_uppercase()
    frontal = named.with_columns(code=pl.lit("CXR//") + view).filter(pl.col("code").is_in(CODES))
    blank = named["viewposition"].null_count()
    dropped["images without a view position"] += blank
    dropped["images that are not frontal (neither AP nor PA)"] += named.height - frontal.height - blank
    return frontal


def _bedside(named: pl.DataFrame, dropped: Counter[str]) -> pl.DataFrame:
    """Images whose view is AP, by any of its names."""
    spelled = pl.col("viewposition").str.to_uppercase().str.replace_all(r"[\s_-]+", " ").str.strip_chars()
    named = named.with_columns(view=spelled)
    dropped["images without a view position"] += named["view"].null_count()
    dropped["images of another view than AP"] += int(named["view"].is_in(_OTHERS).sum())
    taken = named["view"].is_in(BEDSIDE)
    unknown = named["view"].is_not_null() & ~named["view"].is_in(_OTHERS) & ~taken
    dropped["images of a view whose name nobody knows"] += int(unknown.fill_null(False).sum())
    return named.filter(taken.fill_null(False)).with_columns(code=pl.lit("CXR//AP"))


def _timed(images: pl.DataFrame, dropped: Counter[str]) -> pl.DataFrame:
    """Add ``time`` (datetime[us]); drop images whose date or clock time does not exist."""
    whole = pl.col("studytime").floor().cast(pl.Int64, strict=False)
    exists = (
        pl.col("studydate").is_between(1000_01_01, 9999_12_31)
        & pl.col("studytime").is_between(0, 24_00_00, closed="left")
        & (whole // 100 % 100 < 60)
        & (whole % 100 < 60)
    )
    digits = pl.concat_str(pl.col("studydate").cast(pl.String), whole.cast(pl.String).str.zfill(6))
    second = pl.when(exists).then(digits).str.to_datetime("%Y%m%d%H%M%S", time_unit="us", strict=False)
    fraction = ((pl.col("studytime") - whole) * 1e6).round().cast(pl.Int64)
    timed = images.with_columns(time=second + pl.duration(microseconds=fraction, time_unit="us")).drop_nulls("time")
    dropped["frontal images without a date and clock time that exist"] += images.height - timed.height
    return timed


def _one_per_study(images: pl.DataFrame, dropped: Counter[str]) -> pl.DataFrame:
    """The latest image of each study; PA before AP, then by dicom_id."""
    chosen = images.sort(["time", "code", "dicom_id"], descending=[True, True, False]).unique(
        ["subject_id", "study_id"], keep="first", maintain_order=True
    )
    dropped["frontal images left out: another one stands for the study"] += images.height - chosen.height
    return chosen.sort("subject_id", "time", "study_id")


def _events(images: pl.DataFrame, text: pl.Expr) -> pl.DataFrame:
    columns = {
        "subject_id": pl.col("subject_id"),
        "hadm_id": pl.lit(None),
        "stay_id": pl.lit(None),
        "time": pl.col("time"),
        "available_time": pl.col("time"),
        "code": pl.col("code"),
        "numeric_value": pl.lit(None),
        "text_value": text,
        "source": pl.lit("cxr"),
    }
    return images.select(columns[name].cast(dtype).alias(name) for name, dtype in EVENT_SCHEMA.items())


def _notes(dropped: Counter[str]) -> tuple[str, ...]:
    return tuple(f"table '{METADATA}': {counted(n)} {what}" for what, n in dropped.items() if n)
