"""Confidence against loops, panels included, and of two modalities on the same patients."""

from __future__ import annotations

import torch

from mmnar.cohort.split import Split
from mmnar.dataset.preprocess import Preprocessor
from mmnar.ops.confidence import confidence, confidence_in_company, truth
from mmnar.types import PatientBatch
from tests.populations import paneled


def batch() -> PatientBatch:
    fold = paneled(120).fold(Split(tune=0.1, test=0.1), "train")
    return Preprocessor.fit(fold).transform(fold)


def test_the_risk_of_what_was_true_and_each_panel_one_question() -> None:
    b = batch()
    logits = torch.randn(len(b), 7, generator=torch.Generator().manual_seed(0))
    told, mean = truth(logits, b), confidence(logits, b)
    for i in range(len(b)):
        y, asked = b.labels[i], b.label_mask[i]
        p = torch.cat([logits[i, :4].sigmoid(), logits[i, 4:].softmax(0)])
        alone = [float(p[k] if y[k] else 1 - p[k]) for k in range(4)]
        stay = float((p[4:] * y[4:]).sum())
        if asked[4]:
            assert torch.allclose(told[i], torch.tensor([*alone, stay, stay, stay]))
        questions = [alone[0], sum(alone[1:]) / 3] + [stay] * int(asked[4])
        assert abs(float(mean[i]) - sum(questions) / len(questions)) < 1e-6
    assert not b.label_mask[:, 4].all()


def test_who_was_asked_nothing_counts_nothing() -> None:
    b = batch()
    silent = PatientBatch(
        b.schema, b.modalities, b.present, torch.zeros_like(b.labels), torch.zeros_like(b.label_mask), b.rows
    )
    assert not confidence(torch.randn(len(b), 7), silent).any()


def test_two_modalities_are_compared_by_those_who_have_both() -> None:
    g = torch.Generator().manual_seed(1)
    told, present = torch.rand(40, 3, generator=g), torch.rand(40, 3, generator=g) < 0.6
    got = confidence_in_company(told, present)
    for m in range(3):
        for n in range(3):
            want = sum(float(told[i, m]) for i in range(40) if present[i, m] and present[i, n])
            assert abs(float(got[m, n]) - want) < 1e-4
