"""MUSE+'s own invariants, each against its definition."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F

from mmnar.models.muse import MUSE, MUSEConfig, drop_edges, supervised_contrast
from mmnar.ops.losses import info_nce
from mmnar.types import PatientBatch
from tests.conformance.test_models import batch, task_loss
from tests.populations import SCHEMA


def model(**changes: object) -> MUSE:
    torch.manual_seed(0)
    return MUSE(SCHEMA, MUSEConfig(width=16, dropout=0.0, **changes))  # type: ignore[arg-type]


def unit(n: int, d: int = 8) -> torch.Tensor:
    return F.normalize(torch.randn(n, d), dim=1)


def some_unlabelled(n: int = 40) -> PatientBatch:
    """Every third patient was asked nothing."""
    b = batch(n)
    asked = b.label_mask & (torch.arange(len(b)) % 3 != 0)[:, None]
    return replace(b, labels=b.labels * asked, label_mask=asked, checked=True)


def test_edges_drop_with_the_stated_distribution() -> None:
    """½ nothing; else 1 … 3 of four are left with ⅓ each, and every choice of so many is as likely."""
    torch.manual_seed(0)
    draws = 60_000
    present = torch.tensor([True, True, False, True, True]).expand(draws, 5)
    left = drop_edges(present)
    assert not left[:, 2].any()
    own = left[:, [0, 1, 3, 4]]
    for size in (1, 2, 3, 4):
        sets = list(combinations(range(4), size))
        want = 0.5 if size == 4 else 0.5 / 3 / len(sets)
        for chosen in sets:
            row = torch.zeros(4, dtype=torch.bool)
            row[list(chosen)] = True
            share = (own == row).all(1).double().mean().item()
            assert abs(share - want) < 5 * math.sqrt(want * (1 - want) / draws)


def test_a_last_edge_is_never_dropped_and_none_appears() -> None:
    torch.manual_seed(0)
    patterns = ((torch.arange(16)[:, None] >> torch.arange(4)) & 1).bool().repeat(200, 1)
    left = drop_edges(patterns)
    assert not (left & ~patterns).any()
    assert torch.equal(left.any(1), patterns.any(1))
    few = patterns.sum(1) <= 1
    assert torch.equal(left[few], patterns[few])


def test_views_are_one_where_nothing_is_dropped() -> None:
    m, b = model().train(), batch(40)
    e = m.edges(b)
    z, _ = m.graph(m.columns, e, b.present)
    same, _ = m.graph(m.columns, e, b.present.clone())
    assert torch.equal(z, same)
    fewer, _ = m.graph(m.columns, e, drop_edges(b.present))
    assert not torch.equal(z, fewer)


def test_contrasts_against_a_literal_loop_over_pairs_and_tasks() -> None:
    m, b = model(temperature=0.2), some_unlabelled()
    b = b.drop((torch.arange(len(b)) > 1)[:, None].expand_as(b.present))  # two patients have nothing
    z, other = torch.randn(len(b), 16), torch.randn(len(b), 16)
    got = m._contrasts(z, other, b)
    rows = [i for i in range(len(b)) if b.present[i].any()]
    u, v = ({i: F.normalize(m.project(x[i]), dim=0).double() for i in rows} for x in (z, other))

    def s(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x @ y).detach()) / 0.2

    agree = 0.0
    for i in rows:
        agree -= s(u[i], v[i]) - math.log(sum(math.exp(s(u[i], v[j])) for j in rows))
        agree -= s(v[i], u[i]) - math.log(sum(math.exp(s(v[i], u[j])) for j in rows))
    assert abs(got["uns"].item() - agree / 2 / len(rows)) < 1e-5

    total = 0.0
    for k in range(2):
        asked = [i for i in rows if b.label_mask[i, k]]
        terms = []
        for i in asked:
            for j in asked:
                sign = 1 if b.labels[i, k] == b.labels[j, k] else -1
                views = ((2, u[i], u[j]), (1, u[i], v[j]), (1, v[i], u[j]))
                terms.append(sum(w * math.log1p(math.exp(-sign * s(x, y))) for w, x, y in views) / 4)
        total += sum(terms) / len(terms) / 2
    assert abs(got["sup"].item() - total) < 1e-5


def test_agreement_is_best_where_views_are_equal_and_patients_orthogonal() -> None:
    m, b = model(), batch(16)
    b = b.take(b.present.any(1).nonzero().squeeze(1)[:8])
    m.project = torch.nn.Identity()  # type: ignore[assignment]
    eye = torch.eye(len(b), 16)
    best = m._contrasts(eye, eye, b)["uns"].item()
    assert abs(best - math.log(1 + 7 * math.exp(-1 / 0.07))) < 1e-5
    for _ in range(20):
        assert m._contrasts(torch.randn(len(b), 16), torch.randn(len(b), 16), b)["uns"].item() > best


def test_supervised_contrast_is_symmetric_in_patients_and_blind_to_labels_not_asked() -> None:
    torch.manual_seed(0)
    u, v = unit(12), unit(12)
    labels, asked = torch.randint(0, 2, (12, 2)).float(), torch.rand(12, 2) < 0.6
    loss = supervised_contrast(u, v, labels, asked, 0.07)
    order = torch.randperm(12)
    assert torch.allclose(loss, supervised_contrast(u[order], v[order], labels[order], asked[order], 0.07))
    assert torch.equal(loss, supervised_contrast(u, v, torch.where(asked, labels, 1 - labels), asked, 0.07))
    assert torch.allclose(loss, supervised_contrast(u, v, 1 - labels, asked, 0.07))  # only equality counts
    assert supervised_contrast(u, v, labels, torch.zeros_like(asked), 0.07) == 0


def test_contrasts_are_taken_in_full_precision() -> None:
    torch.manual_seed(0)
    u, v = (F.normalize(torch.randn(40, 16), dim=1) for _ in range(2))
    labels, asked = (torch.rand(40, 2) < 0.5).float(), torch.rand(40, 2) < 0.8
    want = info_nce(u, v, 0.07), supervised_contrast(u, v, labels, asked, 0.07)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = info_nce(u, v, 0.07), supervised_contrast(u, v, labels, asked, 0.07)
    assert got == want


def test_unlabelled_patients_enter_the_loss_through_agreement_alone() -> None:
    m, b = model(), some_unlabelled()
    silent = ~b.label_mask.any(1) & b.present.any(1)
    gradients = {}
    for name in ("uns", "sup"):
        z, other = (torch.randn(len(b), 16, requires_grad=True) for _ in range(2))
        m._contrasts(z, other, b)[name].backward()
        gradients[name] = z.grad.abs().sum(1) + other.grad.abs().sum(1)  # type: ignore[union-attr]
    logits = torch.randn(len(b), 2, requires_grad=True)
    task_loss(logits, b).backward()
    assert silent.sum() > 5
    assert (gradients["uns"][silent] > 0).all()
    assert gradients["sup"][silent].sum() == 0
    assert logits.grad is not None
    assert logits.grad[silent].sum() == 0


@pytest.mark.parametrize(("uns", "sup"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
def test_a_contrast_is_a_loss_only_where_it_weighs(uns: float, sup: float) -> None:
    m, b = model(weight_uns=uns, weight_sup=sup).train(), batch(40)
    (objective,) = list(m.objectives(b, m))
    assert set(objective.terms) == {"task"} | ({"uns"} if uns else set()) | ({"sup"} if sup else set())


def test_frozen_modality_states_make_risks_independent_of_company() -> None:
    m, b = model().eval(), batch(40)
    m.after_epoch(b)
    together = m(b).logits
    alone = torch.cat([m(b.take(torch.tensor([i]))).logits for i in range(len(b))])
    assert (alone - together).abs().max() < 1e-6
    half = b.take(torch.arange(5))
    assert (m.train()(half).logits - together[:5]).abs().max() > 1e-4  # the batch's own states would not
