"""Simulated MIMIC-CXR: studies, their vectors in the released embedding layout, and small images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.extras import lacking
from mmnar.simulation.files import Ids, Times, frame, minutes, shuffled_ids, write_table
from mmnar.simulation.images import chest_images
from mmnar.simulation.mimic_iv.columns import CXR_CHEXPERT, CXR_METADATA, CXR_SPLIT
from mmnar.simulation.mimic_iv.stays import IMAGE, Stays
from mmnar.simulation.population import DIMENSIONS, Float
from mmnar.simulation.tfrecord import records

WIDTH: Final = 1376
"""Length of a released embedding."""

SIDE: Final = 112
"""Pixels of a simulated image's side, unless another is asked for."""

_NOISE: Final = 0.3
_PROJECTION: Final = np.random.default_rng(1376).standard_normal((DIMENSIONS, WIDTH)) / np.sqrt(DIMENSIONS)
_LABELS: Final = ("Lung Opacity", "Pleural Effusion", "Edema", "Cardiomegaly", "Atelectasis")


@dataclass(frozen=True)
class Films:
    """S images: whose, of which study, when, what they show (S, 5), from the side or not. Sorted by patient, time."""

    subject_id: Ids
    study_id: Ids
    dicom_id: list[str]
    time: Times
    shows: Float
    lateral: Ids

    def paths(self) -> list[str]:
        """Path of each image below ``files``, without a suffix."""
        keys = zip(self.subject_id.tolist(), self.study_id.tolist(), self.dicom_id, strict=True)
        return [f"files/p{s // 1_000_000}/p{s}/s{study}/{dicom}" for s, study, dicom in keys]


def take_films(stays: Stays, rng: np.random.Generator) -> Films:
    """Of those who have the modality, a study in the first hours of the ICU stay, of some a second one later on.

    Traps: films of the dying after the question about mortality, whether they have the modality or not; films after
    discharge of those who come back; films of earlier admissions.
    """
    n = len(stays)
    severity = stays.severity(IMAGE)
    have = stays.present(IMAGE)
    # half a day is the shortest stay
    first = np.flatnonzero(have)
    # after the question about mortality, which must not learn from their number who lives
    again = np.flatnonzero(have & ~stays.died & stays.asked_in_unit & (rng.random(n) < 0.3))
    left = (stays.outtime - stays.asked)[again] / np.timedelta64(1, "us")
    second = stays.asked[again] + (left * rng.random(len(again))).astype("timedelta64[us]")
    dying = np.flatnonzero(stays.died & (rng.random(n) < 0.6))
    back = np.flatnonzero(stays.later.there & (rng.random(n) < 0.5))
    ill = np.where((stays.icu_again | stays.readmitted)[back, None], 2.0, 0.0)
    before = np.flatnonzero(stays.earlier.there & (rng.random(n) < 0.4))
    parts: list[tuple[Ids, Times, Float]] = [
        (first, stays.intime[first] + minutes(rng, len(first), 15, 11 * 60), severity[first]),
        (again, second, severity[again]),
        (
            dying,
            stays.asked[dying] + minutes(rng, len(dying), 10, 330),
            2.5 + 0.5 * rng.standard_normal((len(dying), 5)),
        ),
        (
            back,
            stays.later.admittime[back] + minutes(rng, len(back), 10, 900),
            ill + rng.standard_normal((len(back), 5)),
        ),
        (
            before,
            stays.earlier.admittime[before] + minutes(rng, len(before), 10, 900),
            rng.standard_normal((len(before), 5)),
        ),
    ]
    row, time, shows = (np.concatenate([part[i] for part in parts]) for i in range(3))
    order = np.lexsort((time, row))
    row, time, shows = row[order], time[order], shows[order]
    study = shuffled_ids(rng, len(row), 50_000_000)
    sides = 1 + (rng.random(len(row)) < 0.15)
    row, time, shows, study = (np.repeat(a, sides, axis=0) for a in (row, time, shows, study))
    lateral = np.arange(len(row)) - np.repeat(np.cumsum(sides) - sides, sides)
    time = time + lateral * np.timedelta64(60, "s")
    return Films(stays.subject_id[row], study, dicom_ids(len(row), rng), time, shows, lateral)


def dicom_ids(n: int, rng: np.random.Generator) -> list[str]:
    names = [rng.bytes(20).hex() for _ in range(n)]
    return ["-".join(name[i : i + 8] for i in range(0, 40, 8)) for name in names]


def metadata(films: Films, front: NDArray[np.str_], side: int, rng: np.random.Generator) -> pl.DataFrame:
    """One row per image; ``StudyTime`` is a number HHMMSS.fff, its leading zeros lost, as released.

    Args:
        front: (S,) "PA" or "AP", read where an image is not lateral.
        side: Pixels.
    """
    n = len(films.study_id)
    day = films.time.astype("datetime64[D]")
    second = ((films.time - day) / np.timedelta64(1, "s")).astype(np.int64)
    clock = second // 3600 * 10_000 + second // 60 % 60 * 100 + second % 60
    view = np.where(films.lateral > 0, "LATERAL", front)
    meanings = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral"}
    values = {
        "dicom_id": films.dicom_id,
        "subject_id": films.subject_id,
        "study_id": films.study_id,
        "PerformedProcedureStepDescription": np.full(n, "CHEST (PORTABLE AP)"),
        "ViewPosition": view,
        "Rows": np.full(n, side),
        "Columns": np.full(n, side),
        "StudyDate": pl.Series(day.astype("datetime64[ms]")).cast(pl.Date).dt.strftime("%Y%m%d").cast(pl.Int64),
        "StudyTime": np.round(clock + rng.integers(1000, size=n) / 1000, 3),
        "ProcedureCodeSequence_CodeMeaning": np.full(n, "CHEST (PORTABLE AP)"),
        "ViewCodeSequence_CodeMeaning": [meanings[v] for v in view],
        "PatientOrientationCodeSequence_CodeMeaning": np.full(n, "Erect"),
    }
    return frame(CXR_METADATA, values)


def split(films: Films) -> pl.DataFrame:
    """The release's own split, by patient: train, validate, test."""
    subject = films.subject_id
    die = subject // 97 % 100
    name = np.where(die < 97, "train", np.where(die < 98, "validate", "test"))
    return frame(
        CXR_SPLIT, {"dicom_id": films.dicom_id, "study_id": films.study_id, "subject_id": subject, "split": name}
    )


def chexpert(films: Films) -> pl.DataFrame:
    """Labels of each study: 1 present, 0 absent, -1 uncertain, empty = not mentioned."""
    study, first = np.unique(films.study_id, return_index=True)
    shows = films.shows[first]
    values: dict[str, object] = {"subject_id": films.subject_id[first], "study_id": study}
    for number, name in enumerate(_LABELS):
        z = shows[:, number]
        label = np.select([z > 0.8, z > 0.5, z < -1.0], [1.0, -1.0, 0.0], np.nan)
        values[name] = pl.Series(label).fill_nan(None)
    clear = (shows < 0.0).all(axis=1)
    values["No Finding"] = pl.Series(np.where(clear, 1.0, np.nan)).fill_nan(None)
    return frame(CXR_CHEXPERT, values).sort("subject_id", "study_id")


def write_cxr(stays: Stays, jpg: Path, embeddings: Path, side: int | None, rng: np.random.Generator) -> None:
    """Draw the films and write them, see ``write_films``."""
    films = take_films(stays, rng)
    front = np.array(["PA", "AP"])[rng.integers(2, size=len(films.study_id))]
    write_films(films, front, jpg, embeddings, side, rng)


def write_films(
    films: Films, front: NDArray[np.str_], jpg: Path, embeddings: Path, side: int | None, rng: np.random.Generator
) -> None:
    """The tables and vectors of these films, and images of ``side`` pixels unless that is None.

    Raises:
        RequirementError: Images without Pillow.
    """
    write_table(jpg / "mimic-cxr-2.0.0-metadata.csv.gz", metadata(films, front, side or SIDE, rng))
    write_table(jpg / "mimic-cxr-2.0.0-split.csv.gz", split(films))
    write_table(jpg / "mimic-cxr-2.0.0-chexpert.csv.gz", chexpert(films))
    paths = films.paths()
    vectors = films.shows @ _PROJECTION + _NOISE * rng.standard_normal((len(paths), WIDTH))
    for path, record in zip(paths, records(vectors.astype(np.float32)), strict=True):
        _write(embeddings / f"{path}.tfrecord", record)
    if side is not None:
        (jpg / "IMAGE_FILENAMES").write_text("".join(f"{path}.jpg\n" for path in paths))
        for some in np.array_split(np.arange(len(paths)), len(paths) // 32 + 1):
            pictures = chest_images(films.shows[some], films.lateral[some] > 0, side, rng)
            for number, pixels in zip(some, pictures, strict=True):
                _write(jpg / f"{paths[number]}.jpg", _jpeg(pixels))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _jpeg(pixels: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> bytes:
    from io import BytesIO

    try:
        from PIL import Image
    except ImportError:
        raise lacking("simulated X-ray images", "pillow", "images", "leave --images out") from None
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
