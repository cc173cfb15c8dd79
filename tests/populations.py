"""Small populations for tests: three modalities, numbers and categories, cells and whole modalities missing."""

from __future__ import annotations

import numpy as np

from mmnar.dataset.store import PatientDataset, make_dataset
from mmnar.schema import Feature, ModalitySpec, Schema, Task

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
