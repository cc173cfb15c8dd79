"""Unified: a head for each common combination, which learns from all who have what it reads and from nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmnar.config import TrainConfig
from mmnar.encoders.modality import encode
from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.base import summed_label_loss
from mmnar.models.unified import Unified, UnifiedConfig
from mmnar.schema import Schema
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch
from tests.conformance.test_models import batch, mixed, only
from tests.populations import MIXED, SCHEMA

TINY = ImageConfig("tiny")
WIDTH = 8
A, B, C = 4, 2, 1
"""Bits of SCHEMA's three modalities in a combination."""


def model(schema: Schema = SCHEMA, **changes: Any) -> Unified:
    torch.manual_seed(0)
    settings = {"width": WIDTH, "dropout": 0.0, "image": TINY, "least": 1} | changes
    return Unified(schema, UnifiedConfig(**settings)).eval()


def having(counts: dict[int, int]) -> PatientBatch:
    """So many patients of each combination of three."""
    full = batch(600)
    full = full.take(full.present.all(1).nonzero().squeeze(1)[: sum(counts.values())])
    bits = torch.cat([torch.full((n,), of) for of, n in counts.items()])
    assert len(full) == len(bits)
    return full.drop((bits[:, None] & torch.tensor([A, B, C])) > 0)


def bits(pattern: Tensor) -> int:
    return int((pattern * torch.tensor([A, B, C])).sum())


def heads(m: Unified) -> list[int]:
    return [bits(pattern) for pattern in m.patterns[m.rank >= 0]]


def test_common_combinations_have_a_head_and_others_the_largest_within_that_most_have() -> None:
    b = having({A | B | C: 3, A | B: 7, B | C: 9, A | C: 2, A: 5, B: 4, 0: 3})
    m = model(least=3)
    m.prepare(b)
    assert heads(m) == [0, A, B, C, B | C, A | B, A | B | C]
    every = having(dict.fromkeys(range(8), 1))
    scored = [bits(m.patterns[s]) for s in m.scoring(every.present)]
    # 17 have A, 14 have C: A scores who has these two
    assert scored == [0, C, B, B | C, A, A, A | B, A | B | C]
    m = model(least=5)
    m.prepare(b)
    assert heads(m) == [0, A, B, C, B | C, A | B]
    assert [bits(m.patterns[s]) for s in m.scoring(every.present)] == [0, C, B, B | C, A, A, A | B, B | C]
    m = model(least=1, most=1)
    m.prepare(b)
    assert heads(m) == [0, A, B, C, B | C]
    fewer = having({A: 3, B: 1, 0: 2})
    m.prepare(fewer)
    assert heads(m) == [0, A, B, C]


@torch.no_grad()
@pytest.mark.parametrize("append", [False, True])
def test_the_risk_is_the_head_of_what_is_there_by_hand(append: bool) -> None:
    b, m = mixed(200), model(MIXED, append_pattern=append, most=20)
    m.prepare(b)
    torch.nn.init.normal_(m.bias)
    if m.pattern_weight is not None:
        torch.nn.init.normal_(m.pattern_weight)
    b = b.take(torch.arange(40))
    h, got = encode(m.encoders, b, WIDTH), m(b)
    kept = {tuple(pattern.tolist()): s for s, pattern in enumerate(m.patterns) if m.rank[s] >= 0}
    exact = [tuple(pattern.tolist()) in kept for pattern in b.present]
    assert 3 < sum(exact) < 40
    for i in range(40):
        inside = [p for p in kept if all(there or not needed for needed, there in zip(p, b.present[i], strict=True))]
        size = max(sum(p) for p in inside)
        s = int(m.scoring(b.present[i : i + 1]))
        pattern = m.patterns[s]
        assert kept[tuple(pattern.tolist())] == s
        assert int(pattern.sum()) == size
        assert not exact[i] or torch.equal(pattern, b.present[i])
        want = m.bias[s].clone()
        for k in pattern.nonzero().squeeze(1):
            want += h[i, k] @ m.weight[s, k]
        if m.pattern_weight is not None:
            want += b.pattern[i] @ m.pattern_weight[s]
        torch.testing.assert_close(got.logits[i], want, rtol=0, atol=1e-5)


def test_each_head_learns_from_all_who_have_what_it_reads() -> None:
    b, m = having({A | B | C: 9, A | B: 8, C: 7, 0: 3}), model()
    m.prepare(b)
    (objective,) = m.train().objectives(b, m)
    want = torch.zeros(())
    h = encode(m.encoders, b, WIDTH)
    for of in (0, A, B, C, A | B, A | B | C):
        s = next(i for i, p in enumerate(m.patterns) if m.rank[i] >= 0 and bits(p) == of)
        who = [i for i in range(len(b)) if bits(b.present[i]) & of == of]
        part = b.take(torch.tensor(who))
        o = m.bias[s] + sum((h[who][:, k] @ m.weight[s, k] for k in m.patterns[s].nonzero().squeeze(1)), torch.zeros(2))
        want = want + summed_label_loss(o.expand(len(who), 2), part)
    torch.testing.assert_close(objective.total, want, rtol=0, atol=1e-5)
    assert set(objective.terms) == {"task", "heads"}


def test_whoever_lacks_a_film_moves_no_head_that_reads_films_and_nothing_of_their_encoder() -> None:
    b = only(mixed(200), ("course", "film"))
    m = model(b.schema)
    m.prepare(b)
    film = m.patterns[:, 1]
    for filmed in (False, True):
        part = b.take((b.present[:, 0] & (b.present[:, 1] == filmed)).nonzero().squeeze(1))
        m.zero_grad(set_to_none=True)
        (objective,) = m.train().objectives(part, m)
        objective.total.backward()
        for gradient in (m.weight.grad, m.bias.grad):
            assert gradient is not None
            assert bool(gradient[film].any()) == filmed
            assert bool(gradient[~film].any())
        of_film = [p.grad is not None and bool(p.grad.any()) for p in m.encoders[1].parameters()]
        assert of_film == [filmed] * len(of_film)
        assert not m.weight.grad[:, 1][~film].any()  # type: ignore[index]  # nor do films enter a record's head


def test_a_fit_keeps_its_combinations_and_nobody_in_training_is_no_obstacle() -> None:
    b = having({A | B: 20, C: 20})
    m = model()
    train(m, b, b, TrainConfig(min_steps=0, max_epochs=1, batch_size=16), 0, Silent())
    assert heads(m) == [0, A, B, C, A | B]
    again = model(least=99)
    again.load_state_dict(m.state_dict())
    assert torch.equal(again.eval()(b).logits, m(b).logits)
    nothing = b.drop(torch.zeros_like(b.present))
    m.prepare(nothing)
    assert heads(m) == [0, A, B, C]
    assert torch.equal(m(nothing).logits, m.bias[0].expand(40, 2))


@pytest.mark.parametrize(
    "change",
    [
        {"width": 12},
        {"dropout": 0.5},
        {"append_pattern": True},
        {"least": 30},
        {"most": 1},
        {"image": ImageConfig("tiny", augment="none")},
        {"series": SeriesConfig("lstm")},
    ],
)
def test_every_setting_changes_the_loss(change: dict[str, Any]) -> None:
    b, found = mixed(200), []
    b = replace(b, labels=torch.where(b.label_mask, (torch.arange(len(b)) % 2)[:, None].float(), 0.0), checked=True)
    for settings in ({}, change):
        m = model(MIXED, **settings)
        if m.pattern_weight is not None:
            torch.nn.init.normal_(m.pattern_weight)
        m.prepare(b)
        torch.manual_seed(1)
        (objective,) = m.train().objectives(b, m)
        found.append(objective.total)
    assert not torch.allclose(*found, atol=1e-4)


def test_what_is_no_number_of_heads_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.least: expected 1 or more, got 0"):
        model(least=0)
    with pytest.raises(ConfigError, match=r"model\.most: expected 0 or more, got -1"):
        model(most=-1)
