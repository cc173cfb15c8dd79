"""Losses of tasks in panels, held against PyTorch's own cross-entropies and sums written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmnar.dataset.preprocess import Preprocessor
from mmnar.errors import SchemaError
from mmnar.ops.losses import (
    cross_entropy,
    masked_label_loss,
    mean_label_loss,
    mean_risk_logits,
    probabilities,
    question_weights,
)
from mmnar.schema import Panel, Schema
from tests.populations import PANELS, SCHEMA, paneled

EXCLUSIVE = ((1, 3, 4),)


def drawn(n: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, 5, generator=generator, dtype=torch.float64) * 3
    labels = (torch.rand(n, 5, generator=generator) < 0.4).double()
    labels[:, EXCLUSIVE[0]] = F.one_hot(torch.randint(0, 3, (n,), generator=generator), 3).double()
    return logits, labels


def test_probabilities_are_sigmoids_and_softmaxes() -> None:
    logits, _ = drawn()
    risks = probabilities(logits, EXCLUSIVE)
    for row, p in zip(logits.numpy(), risks.numpy(), strict=True):
        e = np.exp(row[[1, 3, 4]])
        assert p[[1, 3, 4]] == pytest.approx(e / e.sum())
        assert p[[0, 2]] == pytest.approx(1 / (1 + np.exp(-row[[0, 2]])))


def test_the_terms_of_an_exclusive_panel_sum_to_its_cross_entropy() -> None:
    logits, labels = drawn()
    terms = cross_entropy(logits, labels, EXCLUSIVE)
    want = F.cross_entropy(logits[:, EXCLUSIVE[0]], labels[:, EXCLUSIVE[0]].argmax(1), reduction="none")
    assert torch.allclose(terms[:, EXCLUSIVE[0]].sum(1), want)
    free = [0, 2]
    assert torch.equal(
        terms[:, free], F.binary_cross_entropy_with_logits(logits[:, free], labels[:, free], reduction="none")
    )


def test_the_masked_loss_counts_an_exclusive_panel_as_one_task_and_focuses_only_the_others() -> None:
    logits, labels = drawn()
    mask = torch.ones_like(labels, dtype=torch.bool)
    mask[:20, EXCLUSIVE[0]] = False
    panel = F.cross_entropy(logits[20:, EXCLUSIVE[0]], labels[20:, EXCLUSIVE[0]].argmax(1))
    for gamma in (0.0, 2.0):
        got = masked_label_loss(logits, labels, mask, torch.ones(5).double(), EXCLUSIVE, gamma=gamma, alpha=0.25)
        free = [0, 2]
        others = masked_label_loss(
            logits[:, free], labels[:, free], mask[:, free], torch.ones(2).double(), gamma=gamma, alpha=0.25
        )
        assert got.item() == pytest.approx((panel + others).item())


def test_logits_of_a_mean_risk() -> None:
    generator = torch.Generator().manual_seed(1)
    several = torch.randn(20, 7, 5, generator=generator) * 4
    got = probabilities(mean_risk_logits(several, EXCLUSIVE), EXCLUSIVE)
    assert torch.allclose(got, probabilities(several, EXCLUSIVE).mean(1), atol=1e-6)


def test_the_tune_loss_counts_questions() -> None:
    data = paneled(200)
    weights = question_weights(data.schema)
    assert weights == pytest.approx([1 / 3, 1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 3, 1 / 3])
    from mmnar.cohort.split import Split

    fold = data.fold(Split(), "train")
    batch = Preprocessor.fit(fold).transform(fold)
    logits = torch.randn(len(batch), 7, generator=torch.Generator().manual_seed(2))
    binary = F.binary_cross_entropy_with_logits
    stay = F.cross_entropy(logits[:, 4:][batch.label_mask[:, 4]], batch.labels[:, 4:][batch.label_mask[:, 4]].argmax(1))
    want = (binary(logits[:, 0], batch.labels[:, 0]) + binary(logits[:, 1:4], batch.labels[:, 1:4]) + stay) / 3
    assert mean_label_loss(logits, batch).item() == pytest.approx(want.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("panels", "words"),
    [
        ((Panel("a", ("mortality",)), Panel("a", ("readmission",))), "each name once"),
        ((Panel("a", ("mortality", "unknown")),), "'unknown' is no task"),
        ((Panel("a", ("mortality",)), Panel("b", ("mortality",))), "'mortality' in two panels"),
    ],
)
def test_panels_of_a_schema_are_checked(panels: tuple[Panel, ...], words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        Schema(SCHEMA.modalities, SCHEMA.tasks, (), panels)


def test_a_panel_is_checked() -> None:
    with pytest.raises(SchemaError, match="at least 2 tasks"):
        Panel("los", ("short",), exclusive=True)
    with pytest.raises(SchemaError, match="at least 1 task"):
        Panel("none", ())
    with pytest.raises(SchemaError, match="kinds of its tasks"):
        Panel("a", ("x",), kinds=(("y", "acute"),))
    with pytest.raises(SchemaError, match="all of its tasks or none"):
        paneled(20).schema.asking(["mortality", "short"])


def test_a_schema_without_panels_has_the_digest_it_had_and_one_with_them_comes_back() -> None:
    assert "panels" not in SCHEMA.to_dict()
    schema = paneled(20).schema
    assert Schema.from_dict(schema.to_dict()) == schema
    assert schema.asking(["mortality", "stroke"]).panels == (Panel("phenotypes", ("stroke",)),)
    assert schema.panels == PANELS


@pytest.mark.parametrize("wrong", ["two", "none", "half asked"])
def test_a_batch_with_a_broken_exclusive_panel_is_refused(wrong: str) -> None:
    from dataclasses import replace

    from mmnar.cohort.split import Split

    data = paneled(60)
    labels, mask = data.labels.copy(), data.label_mask.copy()
    row = int(np.flatnonzero(mask[:, 4])[0])
    labels[row, 4:] = wrong == "two"
    if wrong == "half asked":
        mask[row, 5] = False
        labels[row, 4:] = [True, False, False]
    broken = replace(data, labels=labels, label_mask=mask)
    fold = broken.fold(Split(tune=0, test=0), "train")
    with pytest.raises(SchemaError, match="panel 'stay': expected all tasks asked and one true"):
        Preprocessor.fit(fold).transform(fold)
