"""LSTM against its equations, one number at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmnar.models.lstm import LSTM, LSTMConfig
from mmnar.types import PatientBatch, Series
from tests.conformance.courses import COURSES, patients

WIDTH = 5
COURSE = [(-2.5, 0, 0.5), (-1.75, 2, -1.5), (-0.75, 0, 2.0), (-0.5, 1, 1.0)]
STEPS = [  # x_t and m_t, by hand
    ([0.5, 0.0, 0.0], [1.0, 0.0, 0.0]),
    ([0.5, 0.0, -1.5], [0.0, 0.0, 1.0]),
    ([2.0, 1.0, -1.5], [1.0, 1.0, 0.0]),
]


def doubled(b: PatientBatch) -> PatientBatch:
    """In float64."""
    series = {k: replace(m, values=m.values.double()) for k, m in b.modalities.items() if isinstance(m, Series)}
    return replace(b, modalities={**b.modalities, **series}, checked=True)


def cell(m: LSTM, suffix: str, u: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step, unit by unit: torch has its gates in the order i, f, g, o."""
    net = m.encoder.lstm
    w_in, w_state, b_in, b_state = (
        getattr(net, f"{what}_l0{suffix}") for what in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    new_h, new_c = torch.zeros_like(h), torch.zeros_like(c)
    for unit in range(WIDTH):
        i, f, g, o = (
            w_in[gate * WIDTH + unit] @ u
            + w_state[gate * WIDTH + unit] @ h
            + b_in[gate * WIDTH + unit]
            + b_state[gate * WIDTH + unit]
            for gate in range(4)
        )
        new_c[unit] = torch.sigmoid(f) * c[unit] + torch.sigmoid(i) * torch.tanh(g)
        new_h[unit] = torch.sigmoid(o) * torch.tanh(new_c[unit])
    return new_h, new_c


@torch.no_grad()
@pytest.mark.parametrize("hours", [1.0, 3.0])
@pytest.mark.parametrize("both_ways", [False, True])
def test_logits_by_hand(hours: float, both_ways: bool) -> None:
    torch.manual_seed(0)
    m = LSTM(COURSES, LSTMConfig(width=WIDTH, dropout=0.5, hours=hours, both_ways=both_ways)).double().eval()
    steps = STEPS if hours == 3 else [([2.0, 1.0, 0.0], [1.0, 1.0, 0.0])]  # what was before is not known then
    token = m.encoder.steps.token
    u = [token.weight @ torch.tensor([*x, *flags]).double() + token.bias for x, flags in steps]
    ends = []
    for suffix, order in [("", u), ("_reverse", u[::-1])][: 1 + both_ways]:
        h, c = torch.zeros(2, WIDTH).double()
        for one in order:
            h, c = cell(m, suffix, one, h, c)
        ends.append(h)
    h = m.encoder.out.weight @ torch.cat(ends) + m.encoder.out.bias
    want = m.head.net.weight @ h + m.head.net.bias  # type: ignore[operator]
    torch.testing.assert_close(m(doubled(patients(COURSE))).logits[0], want, rtol=0, atol=1e-12)
