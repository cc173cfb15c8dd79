"""Every invariant of PatientBatch is checked at construction."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmnar.errors import SchemaError
from mmnar.types import PatientBatch, Static
from tests.conformance.test_models import batch


def with_modality(b: PatientBatch, name: str, values: torch.Tensor, observed: torch.Tensor) -> PatientBatch:
    return replace(b, modalities={**b.modalities, name: Static(values, observed)}, checked=False)


def test_each_broken_invariant_is_named() -> None:
    b = batch()
    v, o = b.modalities["labs"].values, b.modalities["labs"].observed
    with pytest.raises(SchemaError, match="finite"):
        with_modality(b, "labs", torch.where(o, float("nan"), v), o)
    with pytest.raises(SchemaError, match="0 where unobserved"):
        with_modality(b, "labs", torch.where(o, v, 1.0), o)
    with pytest.raises(SchemaError, match="nothing observed where absent"):
        with_modality(b, "labs", v, torch.ones_like(o))
    with pytest.raises(SchemaError, match=r"\(\d+, 2\), got static \(\d+, 1\)"):
        with_modality(b, "labs", v[:, :1], o)
    with pytest.raises(SchemaError, match="modalities"):
        replace(b, modalities=dict(reversed(b.modalities.items())), checked=False)
    with pytest.raises(SchemaError, match=r"batch\.present"):
        replace(b, present=b.present[:, :2], checked=False)
    with pytest.raises(SchemaError, match=r"batch\.labels"):
        replace(b, labels=torch.ones_like(b.labels), checked=False)


def test_drop_blanks_and_only_removes() -> None:
    b = batch()
    keep = torch.rand(b.present.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    dropped = b.drop(keep)
    dropped.validate()
    assert torch.equal(dropped.present, b.present & keep)
    for i, (name, m) in enumerate(dropped.modalities.items()):
        gone = ~dropped.present[:, i]
        assert not m.observed[gone].any()
        assert (m.values[gone] == 0).all()
        kept = dropped.present[:, i]
        assert torch.equal(m.values[kept], b.modalities[name].values[kept])
