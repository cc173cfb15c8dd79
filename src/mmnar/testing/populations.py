"""Small populations: numbers and categories, cells and whole modalities missing; and one of every kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmnar.dataset.content import Content, HashedArrays, ItemArrays, SeriesArrays
from mmnar.dataset.store import PatientDataset, make_dataset
from mmnar.schema import Feature, ModalitySpec, Panel, Schema, Task

SCHEMA = Schema(
    (
        ModalitySpec("vitals", (Feature("hr"), Feature("map"), Feature("temp"))),
        ModalitySpec("labs", (Feature("lactate"), Feature("ph"))),
        ModalitySpec("unit", (Feature("kind", "categorical", ("medical", "surgical", "other")), Feature("beds"))),
    ),
    (
        Task("mortality", "24 h after admission", "death in hospital"),
        Task("readmission", "at discharge", "a later unit stay"),
    ),
    ("sex",),
)

MIXED = Schema(
    (
        *SCHEMA.modalities,
        ModalitySpec("course", (Feature("hr"), Feature("urine"), Feature("never")), "series"),
        ModalitySpec("note", kind="embedding", shape=(12,)),
        ModalitySpec("report", kind="hashed", shape=(64, 4)),
        ModalitySpec("film", kind="image", shape=(32, 32)),
    ),
    SCHEMA.tasks,
    SCHEMA.attributes,
)
"""One modality of every kind."""


def population(
    n: int = 400, seed: int = 0, signal: float = 2.0, subjects: int | None = None, source: str = "test"
) -> PatientDataset:
    """n samples of ``subjects`` patients; ``signal`` = 0 makes labels independent of everything."""
    rng = np.random.default_rng(seed)
    severity = rng.normal(size=n)
    content = {
        "vitals": severity[:, None] + rng.normal(size=(n, 3)),
        "labs": severity[:, None] + rng.normal(size=(n, 2)),
        "unit": np.column_stack([rng.integers(0, 3, n), rng.normal(size=n)]),
    }
    values = {}
    for name, x in content.items():
        x = np.where(rng.random(x.shape) < 0.1, np.nan, x)
        ordered = rng.random(n) < 1 / (1 + np.exp(-(0.8 + 0.7 * severity)))
        values[name] = np.where(ordered[:, None], x, np.nan).astype(np.float32)
    risk = 1 / (1 + np.exp(1.0 - signal * severity))
    labels = rng.random((n, 2)) < (risk[:, None] if signal else 0.3)
    label_mask = rng.random((n, 2)) < 0.8
    subject_id = np.arange(n) if subjects is None else rng.integers(0, subjects, n)
    ids = np.arange(n)
    return make_dataset(
        SCHEMA,
        values,
        labels,
        label_mask,
        subject_id,
        ids + 1000,
        ids + 5000,
        ids.astype(np.int64) * 3_600_000_000,
        {"sex": np.where(rng.random(n) < 0.5, "Female", "Male")},
        {"source": source, "id_space": source},
    )


def mixed_population(n: int = 400, seed: int = 0) -> PatientDataset:
    """``population`` with a modality of every other kind; each tells of the first label."""
    data = population(n, seed)
    rng = np.random.default_rng([seed, 1])
    told = data.labels[:, 0] + 0.5 * rng.normal(size=n)
    values: dict[str, Content] = {**data.values}
    offsets, hours, who = _items(rng, n, 9)
    feature = rng.integers(0, 2, len(hours)).astype(np.int16)
    values["course"] = SeriesArrays(
        offsets, hours, feature, (told[who] + rng.normal(size=len(hours))).astype(np.float32)
    )
    offsets, hours, who = _items(rng, n, 3)
    values["note"] = ItemArrays(offsets, hours, (told[who, None] + rng.normal(size=(len(who), 12))).astype(np.float32))
    offsets, hours, who = _items(rng, n, 3)
    words = rng.integers(1, 6, len(who))
    starts = np.r_[0, np.cumsum(words)]
    buckets = rng.integers(0, 64, starts[-1]).astype(np.int32)
    values["report"] = HashedArrays(offsets, hours, starts, buckets, np.ones(starts[-1], dtype=np.float32))
    offsets, hours, who = _items(rng, n, 2)
    pixels = np.clip(rng.integers(0, 200, (len(who), 32, 32)) + 50 * told[who, None, None], 0, 255).astype(np.uint8)
    values["film"] = ItemArrays(offsets, hours, pixels)
    return make_dataset(
        MIXED,
        values,
        data.labels,
        data.label_mask,
        data.subject_id,
        data.hadm_id,
        data.stay_id,
        data.prediction_time,
        data.attributes,
        data.manifest,
    )


def _items(rng: np.random.Generator, n: int, below: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets of n samples with fewer than ``below`` items each, their hours, and whose each is."""
    counts = rng.integers(0, below, n)
    who = np.repeat(np.arange(n), counts)
    hours = -rng.exponential(20, len(who)).astype(np.float32)
    return np.r_[0, np.cumsum(counts)], hours[np.lexsort((hours, who))], who


PANELS = (
    Panel("phenotypes", ("sepsis", "stroke", "asthma"), kinds=(("sepsis", "acute"), ("asthma", "chronic"))),
    Panel("stay", ("short", "medium", "long"), exclusive=True),
)


def paneled(n: int = 400, seed: int = 0, signal: float = 2.0) -> PatientDataset:
    """``population``'s contents with one task alone, a panel of three, and an exclusive panel of three that a tenth of
    the samples was not asked; ``signal`` as there."""
    data = population(n, seed, signal)
    rng = np.random.default_rng([seed, 2])
    severity = np.nan_to_num(np.asarray(data.values["vitals"])).mean(axis=1)
    several = rng.random((n, 3)) < 1 / (1 + np.exp(np.array([0.0, 1.0, 2.0]) - signal * severity[:, None]))
    stay = np.digitize(signal * severity + rng.normal(size=n), [-0.5, 0.8])
    known = np.column_stack([np.ones((n, 4), dtype=bool), np.repeat(rng.random((n, 1)) < 0.9, 3, axis=1)])
    labels = np.column_stack([data.labels[:, 0], several, stay[:, None] == np.arange(3)]) & known
    names = ("mortality", "sepsis", "stroke", "asthma", "short", "medium", "long")
    schema = replace(SCHEMA, tasks=tuple(Task(name, "at 48 h", name) for name in names), panels=PANELS)
    return replace(data, schema=schema, labels=labels, label_mask=known)
