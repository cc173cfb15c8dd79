"""What stands for an absent modality."""

from __future__ import annotations

import pytest
import torch

from mmnar.config import TrainConfig
from mmnar.estimators.registry import estimator
from mmnar.models import zero_fill
from mmnar.models.zero_fill import ZeroFill, ZeroFillConfig
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch
from tests.conformance.test_models import batch
from tests.populations import SCHEMA


def model(fill: str = "mean") -> ZeroFill:
    torch.manual_seed(0)
    return ZeroFill(SCHEMA, ZeroFillConfig(width=16, dropout=0.0, fill=fill))  # type: ignore[arg-type]


def means_by_hand(m: ZeroFill, b: PatientBatch) -> torch.Tensor:
    """One patient and modality at a time."""
    out = torch.zeros(3, 16)
    for k, content in enumerate(b.modalities.values()):
        rows = [i for i in range(len(b)) if b.present[i, k]]
        if rows:
            out[k] = sum(m.encoders[k](content.take(torch.tensor([i])))[0] for i in rows) / len(rows)
    return out.detach()


@pytest.mark.parametrize("rows", [7, 2048])
def test_a_fitted_model_fills_with_the_means_of_the_training_fold(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_fill, "FOLD_ROWS", rows)
    m, b, others = model(), batch(60), batch(40, seed=1)
    train(m, b, b, TrainConfig(min_steps=0, max_epochs=2, batch_size=20, patience=9), 0, Silent())
    want = means_by_hand(m, b)
    assert torch.allclose(m.mean, want, atol=1e-5)
    e = m.embed(others)
    absent = ~others.present
    assert torch.allclose(e[absent], want.expand_as(e)[absent], atol=1e-5)
    assert want.abs().sum() > 0


def test_in_training_it_is_the_batchs_mean_without_a_gradient() -> None:
    m, b = model().train(), batch(40)
    want = means_by_hand(m, b)
    e = m.embed(b)
    absent = ~b.present
    assert torch.allclose(e[absent], want.expand_as(e)[absent], atol=1e-5)
    assert torch.equal(m.mean, torch.zeros(3, 16))
    gradient = torch.autograd.grad(e[absent].sum(), m.encoders[0].parameters(), allow_unused=True)
    assert all(g is None or not g.any() for g in gradient)


def test_who_is_missing_for_the_whole_batch_gets_the_folds_mean() -> None:
    m, b = model(), batch(40)
    m.mean.fill_(2.0)
    keep = torch.tensor([True, False, True]).expand_as(b.present)
    assert (m.train().embed(b.drop(keep))[:, 1] == 2).all()
    with torch.no_grad():
        m.eval().after_epoch(b.drop(keep))
    assert not m.mean[1].any()


def test_zeros_are_the_default_and_leave_no_state() -> None:
    m, b = model("zero"), batch(40)
    assert "mean" not in m.state_dict()
    assert not m.embed(b)[~b.present].any()
    assert estimator("zero-fill", "model.fill=mean").model.fill == "mean"  # type: ignore[attr-defined]
