"""Transformer against its equations, head by head and step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmnar.models.transformer import Transformer, TransformerConfig
from mmnar.types import Series
from tests.conformance.courses import COURSES, patients
from tests.conformance.test_lstm import COURSE, STEPS, doubled

WIDTH, HEADS = 6, 2


def normal(x: Tensor, of: torch.nn.LayerNorm) -> Tensor:
    """Layer normalisation of one vector."""
    return (x - x.mean()) / (((x - x.mean()) ** 2).mean() + of.eps).sqrt() * of.weight + of.bias


def layer_by_hand(layer: torch.nn.TransformerEncoderLayer, tokens: list[Tensor]) -> list[Tensor]:
    size, attention, out = WIDTH // HEADS, layer.self_attn, []
    q, k, v = (
        [attention.in_proj_weight[part] @ u + attention.in_proj_bias[part] for u in tokens]
        for part in (slice(0, WIDTH), slice(WIDTH, 2 * WIDTH), slice(2 * WIDTH, 3 * WIDTH))
    )
    for t, u in enumerate(tokens):
        mixed = []
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            weights = torch.stack([q[t][own] @ key[own] / size**0.5 for key in k]).softmax(0)
            assert abs(float(weights.sum()) - 1) < 1e-12
            mixed.append(torch.stack([w * value[own] for w, value in zip(weights, v, strict=True)]).sum(0))
        x = normal(u + attention.out_proj(torch.cat(mixed)), layer.norm1)
        out.append(normal(x + layer.linear2(torch.relu(layer.linear1(x))), layer.norm2))
    return out


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("hours", [3.0, 9.0])
def test_logits_by_hand(hours: float, layers: int) -> None:
    torch.manual_seed(0)
    config = TransformerConfig(width=WIDTH, dropout=0.5, hours=hours, heads=HEADS, layers=layers)
    m = Transformer(COURSES, config).double().eval()
    token, steps = m.encoder.steps.token, len(STEPS)
    tokens = [
        token.weight @ torch.tensor([*x, *flags]).double() + token.bias + m.encoder.position[steps - 1 - t]
        for t, (x, flags) in enumerate(STEPS)
    ]  # the mean is over three steps, however many are looked at
    for layer in m.encoder.layers:
        tokens = layer_by_hand(layer, tokens)  # type: ignore[arg-type]
    want = m.head.net.weight @ (sum(tokens) / steps) + m.head.net.bias  # type: ignore[operator]
    torch.testing.assert_close(m(doubled(patients(COURSE))).logits[0], want, rtol=0, atol=1e-12)


@torch.no_grad()
def test_places_count_back_from_the_prediction() -> None:
    """The same course an hour earlier: its last value stands for one step more."""
    torch.manual_seed(0)
    m = Transformer(COURSES, TransformerConfig(width=WIDTH, dropout=0.0, heads=HEADS)).eval()
    b = patients(COURSE)
    earlier = {k: replace(s, hours=s.hours - 1) for k, s in b.modalities.items() if isinstance(s, Series)}
    moved = replace(b, modalities={**b.modalities, **earlier}, checked=True)
    assert not torch.allclose(m(moved).logits, m(b).logits, atol=1e-4)
