"""Every registered deep model keeps every promise (``mmnar.testing``)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmnar.encoders.settings import ImageConfig
from mmnar.models.base import Model
from mmnar.models.registry import MODELS, model_class
from mmnar.ops.losses import masked_label_loss
from mmnar.schema import Schema
from mmnar.testing.batches import batch as batch
from mmnar.testing.batches import mixed as mixed
from mmnar.testing.batches import only as only
from mmnar.testing.batches import poisoned
from mmnar.testing.models import PROMISES, WIDTH, model_checks
from mmnar.types import PatientBatch
from tests.populations import MIXED

NAMES = sorted(MODELS)
LEAST: dict[str, dict[str, object]] = {
    "aug": {"blocks": 1, "every": 1},
    "healnet": {"latents": 4, "step": 4.0},
    "hgmf": {"least": 1},  # counts patients: it has its types
    "lstm": {"step": 4.0},
    "resnet": {"image": ImageConfig("tiny")},
    "transformer": {"step": 4.0},
    "unified": {"least": 1},
}
"""Sizes for populations of sixty."""


def build(name: str, seed: int = 0, schema: Schema = MIXED, **changes: object) -> Model:
    """As constructed, in training mode."""
    torch.manual_seed(seed)
    kind = model_class(name)
    return kind(schema, kind.Config(width=WIDTH, **LEAST.get(name, {}) | changes))


def task_loss(logits: torch.Tensor, b: PatientBatch) -> torch.Tensor:
    return masked_label_loss(logits, b.labels, b.label_mask, torch.ones(2))


def test_registry_and_folder_agree() -> None:
    import mmnar.models

    files = {p.stem for p in Path(mmnar.models.__path__[0]).glob("*.py")} - {"__init__", "base", "registry"}
    assert {target.split(":")[0].rsplit(".", 1)[1] for target in MODELS.values()} == files


def test_poison_is_behind_absent_modalities_alone() -> None:
    b = mixed()
    bad = poisoned(b)
    assert all(len(bad.modalities[k].values) >= len(b.modalities[k].values) for k in b.modalities)
    assert not torch.equal(bad.modalities["labs"].values, b.modalities["labs"].values)
    there = b.present[:, 1]
    assert torch.equal(bad.modalities["labs"].values[there], b.modalities["labs"].values[there])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise(promise: str, name: str) -> None:
    (check,) = (c for c in model_checks(name, **LEAST.get(name, {})) if c.name == promise)
    check()
