"""MIMIC-CXR: one frontal image per study, as an image or as its released embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

import numpy as np
import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.events import EVENT_SCHEMA, ImageRule, VectorRule
from mmnar.sources.mimic_iv.cxr import CODES, METADATA, cxr_embedding_events, cxr_events
from mmnar.sources.mimic_iv.register import Register
from mmnar.sources.reading.raw import DataRoot

TABLE: Final = "mimic-cxr"
MODALITY: Final = "cxr"
AP: Final = "CXR//AP"
DESCRIPTIONS: Final = {code: f"Frontal chest X-ray, view {code.removeprefix('CXR//')}" for code in CODES}


class Embeddings(Protocol):
    """Released embeddings in one array, as ``mmnar.images.tfrecord.pack_embeddings`` makes them.

    ``array``: a ``.npy`` file, (V, D) float32. ``index``: ``dicom_id, study_id, subject_id, row``. ``notes``: what was
    dropped in packing, with counts.
    """

    @property
    def array(self) -> Path: ...
    @property
    def index(self) -> pl.DataFrame: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


def xray_events(
    register: Register, metadata: DataRoot, embeddings: Embeddings | None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Events of the register's subjects, and what was dropped.

    Raises:
        SourceError: None of the images is of one of them, or most of their studies have no embedding.
    """
    events, notes = cxr_events(metadata, register.lives["subject_id"])
    if events.is_empty():
        raise SourceError(
            "chest X-rays", "frontal images of patients with a unit stay", "none", "give those of the same patients"
        )
    if embeddings is not None:
        studies = events.height
        ours = embeddings.index.join(register.lives, on="subject_id", how="semi")
        events, notes = cxr_embedding_events(metadata, ours)
        notes = (*embeddings.notes, *notes, *_without(studies - events.height, studies))
    placed = register.place(TABLE, events, pl.col("time"), pl.col("available_time"))
    return placed.select(*EVENT_SCHEMA), notes


def _without(absent: int, studies: int) -> tuple[str, ...]:
    """Studies whose frontal images have no embedding, in words."""
    if 2 * absent > studies:
        raise SourceError(
            "released embeddings",
            "one for most studies with a frontal X-ray",
            "fewer than half",
            "complete the download, or prepare without them",
        )
    return (f"table '{METADATA}': {counted(absent)} studies with a frontal X-ray have no embedding",) * (absent > 0)


def xray_rule(root: Path, embeddings: Embeddings | None, side: int) -> ImageRule | VectorRule:
    """
    Args:
        side: Pixels of the square that an image is stored as.
    """
    if embeddings is None:
        return ImageRule(MODALITY, CODES, root, side)
    width = int(np.load(embeddings.array, mmap_mode="r").shape[1])
    return VectorRule(MODALITY, CODES, embeddings.array, width)
