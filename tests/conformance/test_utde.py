"""UTDE's own invariants, each against its definition."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mmnar.encoders.settings import ImageConfig
from mmnar.errors import ConfigError
from mmnar.models.utde import UTDE, Interleaved, SeriesSteps, StreamLayer, UTDEConfig
from mmnar.ops.time_attention import TimeAttention, TimeEmbedding
from mmnar.types import PatientBatch, Series
from tests.conformance.test_models import mixed
from tests.populations import MIXED

COURSE, FILM = MIXED.modality_names.index("course"), MIXED.modality_names.index("film")


def model(**changes: object) -> UTDE:
    torch.manual_seed(0)
    small = {"width": 16, "time_width": 8, "hours": 6.0, "dropout": 0.0, "image": ImageConfig("tiny"), **changes}
    return UTDE(MIXED, UTDEConfig(**small)).eval()  # type: ignore[arg-type]


def series_branch(m: UTDE) -> SeriesSteps:
    branch = m.streams[COURSE]
    assert isinstance(branch, SeriesSteps)
    return branch


def attention() -> tuple[TimeAttention, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Two heads over 3 features at 7 times, 2 of them padding for the second patient, whose last feature is unknown."""
    torch.manual_seed(0)
    m = TimeAttention(time=8, values=3, width=5, heads=2).double()
    m.out = nn.Identity()
    times, x = torch.randn(2, 7, 8).double(), torch.randn(2, 7, 3).double()
    observed = torch.rand(2, 7, 3) < 0.6
    observed[1, 5:] = observed[1, :, 2] = False
    return m, (torch.randn(4, 8).double(), times, torch.where(observed, x, 0.0), observed)


def test_time_attention_is_a_softmax_over_the_times_each_feature_was_observed() -> None:
    m, (r, times, x, observed) = attention()
    got = m(r, times, x, observed)
    q, k, d = m.query(r), m.key(times), 4
    for b in range(2):
        for t in range(4):
            for v in range(3):
                there = observed[b, :, v]
                for h in range(2):
                    scores = k[b, there, h * d : (h + 1) * d] @ q[t, h * d : (h + 1) * d] / math.sqrt(d)
                    weights = scores.softmax(0)  # sums to 1 over the observed times
                    assert torch.isclose(got[b, t, h * 3 + v], weights @ x[b, there, v])
                assert got[b, t, 6 + v] == there.any()


def test_time_attention_ignores_what_was_not_observed_and_the_order_of_times() -> None:
    m, (r, times, x, observed) = attention()
    got = m(r, times, x, observed)
    noise = torch.where(observed, x, 1e6)
    assert torch.equal(m(r, times, noise, observed), got)
    order = torch.randperm(7)
    assert torch.allclose(m(r, times[:, order], x[:, order], observed[:, order]), got)
    assert torch.equal(m(r, times, x, torch.zeros_like(observed)), torch.zeros_like(got))


def test_a_feature_seen_only_where_scores_are_hopeless_keeps_its_value() -> None:
    m, (r, times, x, _) = attention()
    m, x, observed = m.float(), x.float(), torch.eye(7, 3, dtype=torch.bool).expand(2, -1, -1)
    x = torch.where(observed, x, 0.0).requires_grad_()
    got = m(r.float() * 1e4, times.float(), x, observed)[..., :6].unflatten(2, (2, 3))
    assert torch.allclose(got, x.sum(1)[:, None, None].expand_as(got), rtol=1e-4)
    got.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in m.parameters())


def test_time_is_a_share_of_the_window_and_logarithmic_before_it() -> None:
    of = TimeEmbedding(5, steps=24, step=2.0)
    nn.init.ones_(of.linear.weight)
    nn.init.zeros_(of.linear.bias)
    t = of(torch.tensor([0.0, -24.0, -48.0, -48.0 * math.e]))[:, 0]
    assert torch.allclose(t, torch.tensor([1.0, 0.5, 0.0, -1.0]), atol=1e-6)
    assert torch.allclose(of.references()[:, 0], torch.arange(1, 25) / 24, atol=1e-6)


@pytest.mark.parametrize(("gate", "shape"), [("patient", (1, 1)), ("step", (6, 1)), ("dimension", (6, 16))])
def test_the_gate_lies_between_the_branches_and_can_be_forced_to_either(gate: str, shape: tuple[int, int]) -> None:
    m = model(gate=gate)
    branch, b = series_branch(m), mixed()
    content = b.modalities["course"].take(b.present[:, COURSE].nonzero().squeeze(1))
    imputed, attended = branch.branches(content, m.time)
    g = branch.gates(imputed, attended)
    assert g.shape == (len(content), *shape)
    assert ((g > 0) & (g < 1)).all()
    assert torch.allclose(branch(content, m.time), g * attended + (1 - g) * imputed)
    for bias, wanted in ((1e3, attended), (-1e3, imputed)):
        nn.init.zeros_(branch.gate[-1].weight)
        nn.init.constant_(branch.gate[-1].bias, bias)
        assert torch.equal(branch(content, m.time), wanted)


def test_moving_a_measurement_within_its_hour_is_seen_by_the_time_attention_alone() -> None:
    m = model()

    def told(hours: float, value: float = 2.0) -> tuple[Tensor, Tensor]:
        offsets, hour = torch.tensor([0, 3]), torch.tensor([-4.5, hours, -0.5])
        content = Series(offsets, hour, torch.tensor([1.0, value, -1.0]), torch.tensor([0, 0, 1]))
        return series_branch(m).branches(content, m.time)

    (imputed, attended), (imputed_moved, attended_moved) = told(-2.9), told(-2.1)
    assert torch.equal(imputed, imputed_moved)
    assert (attended - attended_moved).abs().max() > 1e-5
    assert (told(-3.1)[0] - imputed).abs().max() > 1e-5  # another hour
    assert (told(-2.9, 3.0)[0] - imputed).abs().max() > 1e-5


def layer(lengths: list[int], **changes: object) -> Interleaved:
    torch.manual_seed(0)
    m = Interleaved(lengths, UTDEConfig(width=8, heads=2, dropout=0.0, hours=4.0, time_width=8, **changes))  # type: ignore[arg-type]
    return m.double().eval()


def literal(m: Interleaved, z: list[Tensor], there: list[bool]) -> list[Tensor]:
    """One patient by the equations; streams that are absent are left alone. (L_m, D) each."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = [slice(0, 4), slice(4, 8)]
        return torch.cat([(q[:, h] @ k[:, h].T / 2).softmax(1) @ v[:, h] for h in heads], 1)

    parts: list[StreamLayer] = list(m.parts)  # type: ignore[arg-type]
    alone = [x + p.out_self(attend(*p.qkv(p.norm_self(x)).split(8, 1))) for p, x in zip(parts, z, strict=True)]
    after = []
    for i, (p, x) in enumerate(zip(parts, alone, strict=True)):
        seen = [parts[n].keys(parts[n].norm_cross(alone[n])) for n in range(len(z)) if n != i and there[n]]
        if seen:
            k, v = torch.cat(seen).split(8, 1)
            x = x + p.out_cross(attend(p.query(p.norm_cross(x)), k, v))
        after.append(x + p.feed(x))
    return after


PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]]).bool()


def test_a_layer_against_the_equations_patient_by_patient() -> None:
    m = layer([4, 4, 4])
    every = torch.randn(6, 3, 4, 8).double()
    rows = [p.nonzero().squeeze(1) for p in PRESENT.unbind(1)]
    z = [every[r, i] for i, r in enumerate(rows)]
    got = m(z, rows, PRESENT, only_last=False)
    for b in range(6):
        want = literal(m, list(every[b]), PRESENT[b].tolist())
        for i, r in enumerate(rows):
            if PRESENT[b, i]:
                assert torch.allclose(got[i][r == b][0], want[i])
    last = m(z, rows, PRESENT, only_last=True)
    assert all(torch.allclose(a[:, -1:], b) for a, b in zip(got, last, strict=True))


def test_one_step_stands_for_as_many_equal_ones() -> None:
    short, long = layer([4, 1, 1]), layer([4, 4, 4])
    long.load_state_dict(short.state_dict())
    rows = [p.nonzero().squeeze(1) for p in PRESENT.unbind(1)]
    z = [torch.randn(len(r), length, 8).double() for r, length in zip(rows, (4, 1, 1), strict=True)]
    got = short(z, rows, PRESENT, only_last=False)
    want = long([x.expand(-1, 4, -1) for x in z], rows, PRESENT, only_last=False)
    assert all(torch.allclose(a.expand(-1, 4, -1), b) for a, b in zip(got, want, strict=True))


def test_streams_meet_in_a_layer_only_where_both_are_present() -> None:
    m, rows = layer([4, 4]), [torch.tensor([0, 1]), torch.tensor([1])]
    there, z = torch.tensor([[1, 0], [1, 1]]).bool(), [torch.randn(2, 4, 8).double(), torch.randn(1, 4, 8).double()]
    moved = m([z[0], z[1] + torch.randn(8).double()], rows, there, False)[0] - m(z, rows, there, False)[0]
    assert torch.equal(moved[0], torch.zeros_like(moved[0]))
    assert moved[1].abs().max() > 1e-3


def test_the_age_of_a_film_matters_where_there_is_one_and_nowhere_else() -> None:
    m, b = model(), mixed()
    film = b.modalities["film"]
    older = replace(b, modalities={**b.modalities, "film": replace(film, hours=film.hours - 20)})  # type: ignore[type-var]
    change = (m(older).logits - m(b).logits).abs().amax(1)
    has = b.present[:, FILM]
    assert (change[~has] == 0).all()
    assert (change[has] > 1e-6).all()


def test_without_films_nothing_of_theirs_gets_a_gradient() -> None:
    m, b = model().train(), mixed()
    keep = torch.ones_like(b.present)
    keep[:, FILM] = False
    out = m(b.drop(keep))
    m.task_loss(out.logits, b).backward()
    theirs = [*m.streams[FILM].parameters(), *m.norms[FILM].parameters(), m.positions[FILM]]
    theirs += [p for one in m.layers for p in one.parts[FILM].parameters()]  # type: ignore[union-attr,index]
    assert all(p.grad is None or not p.grad.any() for p in theirs)


def test_a_series_alone_has_nothing_to_cross_and_trains() -> None:
    b = mixed()
    schema = replace(MIXED, modalities=(MIXED.modalities[COURSE],))
    one = {"course": b.modalities["course"]}
    b = PatientBatch(schema, one, b.present[:, [COURSE]], b.labels, b.label_mask, b.rows)
    m = UTDE(schema, UTDEConfig(width=16, time_width=8, hours=6.0))
    m.task_loss(m(b).logits, b).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in m.parameters())


@pytest.mark.parametrize(
    "change",
    [
        {"width": 32},
        {"dropout": 0.5},
        {"hours": 3.0},
        {"step": 0.5},
        {"time_width": 4},
        {"heads": 2},
        {"layers": 1},
        {"gate": "step"},
        {"gate": "patient"},
        {"max_steps": 2},
        {"append_pattern": True},
        {"image": ImageConfig("tiny", augment="none")},
    ],
    ids=str,
)
def test_every_setting_matters(change: dict[str, object]) -> None:
    b, losses = mixed(), []
    for changes in ({}, change):
        m = model(**changes).train()
        torch.manual_seed(1)
        losses.append(m.task_loss(m(b).logits, b))
    assert not torch.equal(*losses)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hours", 0.0), ("step", 0.7), ("time_width", 1), ("heads", 0), ("heads", 3), ("layers", 0), ("max_steps", 1)],
)
def test_wrong_numbers_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=r"model\."):
        UTDEConfig(**{key: value})  # type: ignore[arg-type]
