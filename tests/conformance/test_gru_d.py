"""GRU-D's own invariants, each against its definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmnar.models import gru_d
from mmnar.models.gru_d import GRUD, GRUDConfig, GRUDStatic, GRUDStaticConfig
from mmnar.ops.grid import Grid, gaps
from mmnar.types import Series
from tests.conformance.test_models import batch, mixed
from tests.populations import MIXED, SCHEMA

V, H = 3, 5
COUNTS = (4, 0, 1, 6, 4)


def model(**changes: object) -> GRUD:
    torch.manual_seed(0)
    return GRUD(MIXED, GRUDConfig(width=H, dropout=0.0, static="none", **changes)).eval().double()  # type: ignore[arg-type]


def grid(counts: tuple[int, ...] = COUNTS, share: float = 0.5) -> Grid:
    """Random times and values of ``counts`` times each; float64."""
    torch.manual_seed(1)
    offsets = torch.tensor([0, *counts]).cumsum(0)
    hours = torch.cat([-torch.sort(torch.rand(n, dtype=torch.float64) * 48, descending=True).values for n in counts])
    observed = torch.rand(len(hours), V) < share
    observed[torch.arange(len(hours)), torch.randint(V, (len(hours),))] = True
    return Grid(offsets, hours, torch.where(observed, torch.randn(len(hours), V).double(), 0.0), observed)


def literal(m: GRUD, g: Grid) -> Tensor:
    """The paper's equations, patient by patient and time by time; (B, H)."""
    w_x, b_x, w_h, b_h = m.rate_x, m.shift_x, m.rate_h, m.shift_h
    both, b = m.inputs.weight, m.inputs.bias
    (W_z, W_r, W), (V_z, V_r, V_h) = both[:, :V].split(H), both[:, V:].split(H)
    b_z, b_r, b_n = b.split(H)
    U_z, U_r = m.gates.weight.split(H)
    U = m.candidate.weight
    out = torch.zeros(len(g), H, dtype=torch.float64)
    for p in range(len(g)):
        h, last, delta, before = torch.zeros(H).double(), torch.zeros(V).double(), torch.zeros(V).double(), None
        for row in range(int(g.offsets[p]), int(g.offsets[p + 1])):
            if before is not None:
                delta = g.hours[row] - g.hours[before] + (1 - g.observed[before].double()) * delta
            x, mask = g.values[row], g.observed[row].double()
            gamma_x = torch.exp(-torch.clamp(w_x * delta + b_x, min=0))
            gamma_h = torch.exp(-torch.clamp(w_h @ delta + b_h, min=0))
            last = mask * x + (1 - mask) * last
            x_hat = mask * x + (1 - mask) * (gamma_x * last + (1 - gamma_x) * 0.0)
            h = gamma_h * h
            z = torch.sigmoid(W_z @ x_hat + U_z @ h + V_z @ mask + b_z)
            r = torch.sigmoid(W_r @ x_hat + U_r @ h + V_r @ mask + b_r)
            new = torch.tanh(W @ x_hat + U @ (r * h) + V_h @ mask + b_n)
            h, before = (1 - z) * h + z * new, row
        out[p] = h
    return out


def test_last_state_against_a_literal_loop_over_patients_and_times() -> None:
    m, g = model(), grid()
    with torch.no_grad():
        m.shift_x.uniform_(-0.2, 0.2)
        m.shift_h.uniform_(-0.2, 0.2)
    assert torch.allclose(m.last_state(g), literal(m, g), atol=1e-12)
    assert not m.last_state(g)[1].any()  # nobody without a time leaves the initial state


def test_without_rates_it_is_forward_filling_and_with_long_gaps_the_mean() -> None:
    m, g = model(), grid()
    gap = gaps(g)
    with torch.no_grad():
        m.rate_x.zero_()
        filled = m.imputed(g, gap)
        m.rate_x.fill_(1.0)
        decayed = m.imputed(g, gap * 1e4)
    assert torch.equal(filled[g.observed], g.values[g.observed])
    assert torch.equal(decayed[g.observed], g.values[g.observed])
    for p in range(len(g)):
        last = torch.zeros(V).double()
        for row in range(int(g.offsets[p]), int(g.offsets[p + 1])):
            last = torch.where(g.observed[row], g.values[row], last)
            assert torch.equal(filled[row], last)
    waited = ~g.observed & (gap > 1e-3)
    assert waited.any()
    assert not decayed[waited].any()  # the training mean


def test_fully_observed_the_input_decay_is_idle_and_masks_are_ones() -> None:
    m, g = model(), grid(share=1.1)
    before = m.last_state(g)
    with torch.no_grad():
        m.rate_x.fill_(7.0)
        m.rate_h.zero_()
    still = m.last_state(g)
    assert not torch.equal(before, still)  # the state's decay was at work
    with torch.no_grad():
        x, bias = g.values, m.inputs.bias + m.inputs.weight[:, V:].sum(1)
        for p in range(len(g)):  # an ordinary unit with the masks' part in its bias
            h = torch.zeros(1, H).double()
            for row in range(int(g.offsets[p]), int(g.offsets[p + 1])):
                z, r, n = (x[row] @ m.inputs.weight[:, :V].T + bias).split(H)
                u_z, u_r = m.gates(h).split(H, dim=1)
                z, r = torch.sigmoid(z + u_z), torch.sigmoid(r + u_r)
                h = (1 - z) * h + z * torch.tanh(n + m.candidate(r * h))
            assert torch.allclose(still[p], h[0], atol=1e-12)


def test_decays_learn_from_the_start_and_not_from_the_zeros_of_the_release() -> None:
    for released in (False, True):
        m, g = model(), grid()
        decays = (m.rate_x, m.shift_x, m.rate_h, m.shift_h)
        if released:
            with torch.no_grad():
                for decay in decays:
                    decay.zero_()
        m.last_state(g).sum().backward()
        assert [bool(decay.grad.any()) for decay in decays] == [not released] * 4  # type: ignore[union-attr]


def test_the_unit_of_time_is_a_matter_of_the_rates() -> None:
    m, g = model(), grid()
    minutes = replace(g, hours=g.hours * 60)
    want = m.last_state(g)
    assert not torch.allclose(m.last_state(minutes), want)  # real times count, not numbers of steps
    with torch.no_grad():
        m.rate_x /= 60
        m.rate_h /= 60
    assert torch.allclose(m.last_state(minutes), want, atol=1e-12)


def test_dropout_is_the_same_at_every_time_of_a_patient() -> None:
    m = GRUD(MIXED, GRUDConfig(width=H, dropout=0.5)).train()
    kept = m._kept(grid(), 200)
    assert kept.shape == (len(COUNTS), 200)
    assert 0.4 < float((kept == 0).float().mean()) < 0.6


@pytest.mark.parametrize("static", ["none", "delta_only", "embeddings"])
def test_other_modalities_enter_as_told(static: str) -> None:
    b = mixed(40)
    torch.manual_seed(0)
    m = GRUD(b.schema, GRUDConfig(width=8, static=static)).eval()  # type: ignore[arg-type]
    series = b.modalities["course"]
    assert isinstance(series, Series)
    assert not torch.equal(m(b.drop(torch.zeros_like(b.present))).logits, m(b).logits)
    other = replace(b, modalities={**b.modalities, "labs": b.take(torch.arange(len(b)).flip(0)).modalities["labs"]})
    hidden = b.present.clone()
    hidden[:, 0] = False
    assert torch.equal(m(replace(other, checked=True)).logits, m(b).logits) == (static != "embeddings")
    assert torch.equal(m(b.drop(hidden)).logits, m(b).logits) == (static == "none")


def test_without_series_it_is_one_step_from_a_zero_state() -> None:
    b = batch(60)
    torch.manual_seed(0)
    one = GRUDStatic(SCHEMA, GRUDStaticConfig(width=H, dropout=0.0, static="none")).eval()
    one.prepare(b)
    full = GRUD(MIXED, GRUDConfig(width=H, dropout=0.0, static="none")).eval()
    full.inputs = torch.nn.Linear(one.inputs.in_features, 3 * H)  # as many variables as there are static columns
    z, new = one.inputs.weight.split(H)
    bias_z, bias_new = one.inputs.bias.split(H)
    with torch.no_grad():
        full.inputs.weight.copy_(torch.cat([z, torch.randn_like(z), new]))
        full.inputs.bias.copy_(torch.cat([bias_z, torch.randn(H), bias_new]))
        values, known = (torch.cat(parts, dim=1) for parts in zip(*one.features(b), strict=True))
        projected = full.inputs(torch.cat([values, known.float()], dim=1))
        state = full.step(projected, torch.zeros(len(b), H), torch.ones(len(b), H))
        assert torch.allclose(one.trunk(state), one(b).representation, atol=1e-6)


@torch.no_grad()
def test_a_prediction_needs_no_more_memory_than_a_training_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    b = mixed(80)
    torch.manual_seed(0)
    m = GRUD(b.schema, GRUDConfig(width=8)).eval()
    whole, sizes, last_state = m(b), [], m.last_state
    m.last_state = lambda g: sizes.append(len(g)) or last_state(g)  # type: ignore[method-assign]
    monkeypatch.setattr(gru_d, "ROWS", 30)
    parts = m(b)
    assert sizes == [*[30] * (len(b) // 30), len(b) % 30]
    assert torch.allclose(parts.logits, whole.logits, atol=1e-6)
    assert torch.allclose(parts.representation, whole.representation, atol=1e-6)
