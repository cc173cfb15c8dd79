"""GRAPE's own invariants, each against its definition."""

from __future__ import annotations

import pytest
import torch

from mmnar.models.grape import GRAPE, GRAPEConfig
from mmnar.types import PatientBatch
from tests.conformance.test_models import batch
from tests.populations import SCHEMA


def model(**changes: object) -> GRAPE:
    torch.manual_seed(0)
    return GRAPE(SCHEMA, GRAPEConfig(width=16, dropout=0.0, **changes))  # type: ignore[arg-type]


def fitted(b: PatientBatch, **changes: object) -> GRAPE:
    m = model(**changes).eval()
    m.prepare(b)
    m.after_epoch(b)
    return m


def test_each_observed_edge_stays_with_its_probability_and_no_other_appears() -> None:
    m, present = model(keep=0.7), batch(40).present
    kept = torch.stack([m.drop_edges(present) for _ in range(2000)])
    assert not (kept & ~present).any()
    share = kept.float().mean(0)[present]
    assert (share - 0.7).abs().max() < 5 * (0.7 * 0.3 / 2000) ** 0.5
    together = (kept[:, :, 0] & kept[:, :, 1]).float().mean(0)[present[:, 0] & present[:, 1]]
    assert abs(together.mean() - 0.49) < 0.01  # independent of each other


def test_a_dropped_edge_is_gone_in_both_directions() -> None:
    """Dropping by r is what the graph gives for a batch that never had those modalities."""
    m, b = model(layers=2, weight_imp=0.0).train(), batch(40)
    torch.manual_seed(3)
    kept = m.drop_edges(b.present)
    torch.manual_seed(3)
    dropped = m(b)
    m.config = GRAPEConfig(width=16, dropout=0.0, keep=1.0)
    assert (m(b.drop(kept)).logits - dropped.logits).abs().max() < 1e-5
    assert (m(b).logits - dropped.logits).abs().max() > 1e-3


def test_imputation_loss_against_a_literal_loop_over_edges_and_features() -> None:
    b = batch(40)
    m = fitted(b)
    imputed, dropped = torch.randn(len(b), 3, 16), b.present & (torch.rand(b.present.shape) < 0.3)
    plain, total, edges = m.plain(b), 0.0, 0
    for i, k in dropped.nonzero().tolist():
        (x, known), basis = plain[k], getattr(m, f"basis{k}")
        squares = [
            (float(basis[f].double() @ imputed[i, k].double()) - float(x[i, f])) ** 2
            for f in range(x.shape[1])
            if known[i, f]
        ]
        total, edges = total + sum(squares) / len(squares), edges + 1
    assert abs(m._imputation_loss(imputed, b, dropped).item() - total / edges) < 1e-5
    assert m._imputation_loss(imputed, b, torch.zeros_like(dropped)).item() == 0.0


def test_nothing_that_is_imputed_moves_its_own_target() -> None:
    """Neither the bases nor the data's scale are trained, and bases are orthogonal."""
    m, trained = fitted(batch(40)), {name for name, _ in model().named_parameters()}
    assert not any(name.startswith(("plain", "basis")) for name in trained)
    for k, width in enumerate(m.plain.widths):
        basis = getattr(m, f"basis{k}")
        assert (basis @ basis.T - torch.eye(width)).abs().max() < 1e-5


def test_a_hidden_modality_is_imputed_without_its_own_content() -> None:
    b = batch(40)
    m = fitted(b)
    without = b.drop(torch.tensor([False, True, True]).expand_as(b.present))
    h, columns = m.graph(m.columns, m.edges(b), without.present)
    again, _ = m.graph(m.columns, m.edges(without), without.present)
    imputed, same = (m.impute(m.post(x), m.post(columns)) for x in (h, again))
    assert torch.equal(imputed, same)
    assert imputed.shape == (len(b), 3, 16)
    assert (imputed[:, 0] - imputed[:, 1]).std(0).max() > 1e-2  # more than a constant apart


def test_the_label_is_read_from_the_imputed_row() -> None:
    b = batch(40)
    m = fitted(b)
    with torch.no_grad():
        m.edge_out.weight.zero_()
        m.edge_out.bias.zero_()
    assert torch.equal(m(b).logits, m.head.net.bias.expand(len(b), -1))


def test_patients_have_no_identity() -> None:
    """With nothing present all are one: the same start, whatever their row."""
    b = batch(40)
    logits = fitted(b)(b.drop(torch.zeros_like(b.present))).logits
    assert torch.equal(logits, logits[:1].expand_as(logits))


@pytest.mark.parametrize(("layers", "alone"), [(1, True), (2, False)])
def test_with_one_layer_and_all_edges_a_patients_state_depends_on_own_edges_alone(layers: int, alone: bool) -> None:
    m, b = model(layers=layers, keep=1.0).train(), batch(40)
    together, part = m(b).representation[:10], m(b.take(torch.arange(10))).representation
    assert ((together - part).abs().max() < 1e-5) == alone


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_imputation_is_a_loss_only_where_it_weighs(weight: float) -> None:
    b = batch(40)
    m = fitted(b, weight_imp=weight).train()
    (objective,) = list(m.objectives(b, m))
    assert set(objective.terms) == ({"task", "imp"} if weight else {"task"})
