"""UMSE's own invariants, each against its definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmnar.errors import ConfigError
from mmnar.models.umse import UMSE, Patches, UMSEConfig, skip_mean
from mmnar.ops.packed import latest, time_features
from mmnar.types import Content, PatientBatch, Series, Static
from tests.conformance.test_models import mixed
from tests.populations import MIXED

NAMES = MIXED.modality_names
COURSE, FILM, UNIT = (NAMES.index(name) for name in ("course", "film", "unit"))


def model(**changes: object) -> UMSE:
    torch.manual_seed(0)
    return UMSE(MIXED, UMSEConfig(**{"width": 16, "dropout": 0.0, **changes})).eval()  # type: ignore[arg-type]


def series(b: PatientBatch) -> Series:
    content = b.modalities["course"]
    assert isinstance(content, Series)
    return content


def with_content(b: PatientBatch, name: str, content: Content) -> PatientBatch:
    return replace(b, modalities={**b.modalities, name: content}, checked=False)


def literal(m: UMSE, one: PatientBatch) -> Tensor:
    """c of the modalities of a single patient, layer by layer without padding or packing; (M, D)."""
    there = [i for i in range(len(NAMES)) if one.present[0, i]]
    z, state = m.bottleneck[None], {}
    for i in there:
        tokens = m.tokens(i, one.modalities[NAMES[i]]).values
        state[i] = torch.cat([m.cls[i][None], tokens])[None]
    n = len(m.bottleneck)
    for layers in m.layers:
        assert isinstance(layers, nn.ModuleList)
        state = {i: layers[i](torch.cat([z, state[i]], 1)) for i in there}
        z = torch.stack([state[i][:, :n] for i in there]).mean(0)
        state = {i: state[i][:, n:] for i in there}
    c = torch.zeros(len(NAMES), m.c.width)
    for i in there:
        c[i] = m.norms[i](state[i][0, 0])
    return c


@pytest.mark.parametrize("layers", [2, 3])
def test_summaries_and_risk_against_the_equations_patient_by_patient(layers: int) -> None:
    m, b = model(layers=layers), mixed()
    c, out = m.summaries(b), m(b)
    for i in range(12):
        one = b.take(torch.tensor([i]))
        want = literal(m, one)
        assert torch.allclose(c[i], want, atol=1e-5)
        there = one.present[0]
        scores = m.bias + (torch.tanh(want @ m.score[0].weight.T + m.score[0].bias) @ m.score[2].weight.T).squeeze(1)  # type: ignore[operator,union-attr]
        h = scores[there].softmax(0) @ want[there] if there.any() else m.null
        assert torch.allclose(out.logits[i], m.head(h[None], one.present)[0], atol=1e-5)


def test_every_token_is_a_measurement_and_every_measurement_a_token() -> None:
    m, b = model(), mixed()
    for i, name in enumerate(NAMES):
        content, tokens = b.modalities[name], m.tokens(i, b.modalities[name])
        if isinstance(content, Static):
            assert torch.equal(tokens.counts, content.observed.sum(1))
        else:
            assert torch.equal(tokens.counts, content.counts * (4 if name == "film" else 1))  # 32 pixels by 16
    course = series(b)
    tokens = m.tokens(COURSE, course)
    for e in range(5):
        value = m.tokens.value(course.values[e : e + 1, None])
        time = m.tokens.time(time_features(course.hours[e : e + 1]))
        kind = m.tokens.types.weight[m.tokens.first[COURSE] + course.feature[e]]
        assert torch.allclose(tokens.values[e], (value + time + kind)[0], atol=1e-4)


def test_the_order_of_measurements_does_not_matter() -> None:
    m, b = model(), mixed()
    course = series(b)
    rows = torch.cat(
        [a + torch.randperm(n) for a, n in zip(course.offsets.tolist(), course.counts.tolist(), strict=False)]
    )
    shuffled = Series(course.offsets, course.hours[rows], course.values[rows], course.feature[rows])
    assert not torch.equal(shuffled.values, course.values)
    assert torch.allclose(m(with_content(b, "course", shuffled)).logits, m(b).logits, atol=1e-5)


def test_a_zero_at_the_prediction_of_the_first_feature_is_a_measurement_and_no_padding() -> None:
    m, b = model(), mixed()
    has = b.present[:, COURSE].nonzero().squeeze(1)
    b = b.take(has[:2])
    one = torch.zeros(1)
    zero, none = (
        Series(torch.tensor([0, n, n + 1]), one.expand(n + 1), one.expand(n + 1), one.expand(n + 1).long())
        for n in (2, 1)
    )
    assert (m(with_content(b, "course", zero)).logits - m(with_content(b, "course", none)).logits)[0].abs().max() > 1e-5


def test_an_absent_modality_is_not_in_the_mean_of_bottlenecks() -> None:
    z = torch.randn(2, 3, 4, 5)  # of two modalities and three patients
    present = torch.tensor([[1, 0], [1, 1], [0, 0]]).bool()
    rows = [p.nonzero().squeeze(1) for p in present.unbind(1)]
    got = skip_mean([z[0, rows[0]], z[1, rows[1]]], rows, present)
    assert torch.equal(got[0], z[0, 0])
    assert torch.allclose(got[1], z[:, 1].mean(0))


def test_a_film_reaches_what_the_series_says_where_there_is_one_and_nowhere_else() -> None:
    m, b = model(), mixed()
    film = b.modalities["film"]
    other = with_content(b, "film", replace(film, values=255 - film.values))  # type: ignore[type-var,union-attr]
    change = (m.summaries(other) - m.summaries(b))[:, COURSE].abs().amax(1)
    both = b.present[:, COURSE] & b.present[:, FILM]
    assert (change[both] > 1e-6).all()
    assert (change[~both] == 0).all()


def test_the_time_of_a_film_matters_where_there_is_one_and_nowhere_else() -> None:
    m, b = model(), mixed()
    film = b.modalities["film"]
    older = with_content(b, "film", replace(film, hours=film.hours - 20))  # type: ignore[type-var,union-attr]
    change = (m(older).logits - m(b).logits).abs().amax(1)
    has = b.present[:, FILM]
    assert (change[~has] == 0).all()
    assert (change[has] > 1e-6).all()


def test_weights_are_shares_of_what_is_present() -> None:
    m, b = model(), mixed()
    nn.init.normal_(m.bias)
    w = m.weights(m.summaries(b), b.present)
    assert torch.allclose(w.sum(1), b.present.any(1).float())
    assert torch.equal(w > 0, b.present)


def test_without_films_nothing_of_theirs_gets_a_gradient() -> None:
    m, b = model().train(), mixed()
    keep = torch.ones_like(b.present)
    keep[:, FILM] = False
    m.task_loss(m(b.drop(keep)).logits, b).backward()
    theirs = [*m.tokens.special[str(FILM)].parameters(), *m.norms[FILM].parameters()]
    theirs += [p for layers in m.layers for p in layers[FILM].parameters()]  # type: ignore[index]
    assert all(p.grad is None or not p.grad.any() for p in theirs)
    assert m.cls.grad is not None
    assert not m.cls.grad[FILM].any()


def test_the_latest_measurements_are_kept() -> None:
    content = Series(torch.tensor([0, 3, 3, 4]), -torch.arange(4.0), torch.arange(4.0), torch.arange(4))
    kept = latest(content, 2)
    assert kept.offsets.tolist() == [0, 2, 2, 3]
    assert kept.values.tolist() == kept.feature.tolist() == [1, 2, 3]
    assert kept.hours.tolist() == [-1, -2, -3]
    b = mixed()
    course = series(b)
    early = torch.cat([torch.arange(n - 1, -1, -1) for n in course.counts.tolist()]) >= 2
    told = with_content(b, "course", replace(course, values=torch.where(early, 9.0, course.values)))
    assert torch.equal(model(max_items=2)(told).logits, model(max_items=2)(b).logits)
    assert not torch.equal(model(max_items=3)(told).logits, model(max_items=3)(b).logits)


def test_a_category_is_a_vector_and_a_number_a_function() -> None:
    m = model()
    told = Static(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([[True, False], [True, True]]))
    tokens = m.tokens(UNIT, told)
    time = m.tokens.time(time_features(torch.zeros(1)))[0]
    first, categories = m.tokens.first[UNIT], m.tokens.special[str(UNIT)].vectors.weight  # type: ignore[union-attr]
    kinds = m.tokens.types.weight[first : first + 2]
    assert tokens.offsets.tolist() == [0, 1, 3]
    assert torch.allclose(tokens.values[0], categories[2] + time + kinds[0], atol=1e-4)  # type: ignore[index]
    assert torch.allclose(tokens.values[1], categories[0] + time + kinds[0], atol=1e-4)  # type: ignore[index]
    assert torch.allclose(tokens.values[2], m.tokens.value(torch.tensor([[2.0]]))[0] + time + kinds[1], atol=1e-4)


def test_patches_are_cut_row_by_row_and_filled_up_with_black() -> None:
    m, images = Patches(5, 3, 4), torch.randint(0, 255, (2, 5, 5), dtype=torch.uint8)
    got = m(images)
    whole = F.pad(images.double() / 255, (0, 1, 0, 1)) * 4 - 2
    assert got.shape == (2, 4, 4)
    for i, (top, left) in enumerate([(0, 0), (0, 3), (3, 0), (3, 3)]):
        patch = whole[:, top : top + 3, left : left + 3].flatten(1).float()
        want = patch @ m.linear.weight.flatten(1).T + m.linear.bias + m.place[i]
        assert torch.allclose(got[:, i], want, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 32},
        {"dropout": 0.5},
        {"layers": 3},
        {"bottlenecks": 2},
        {"heads": 2},
        {"max_items": 1},
        {"patch": 8},
        {"append_pattern": True},
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
    ("key", "value"), [("layers", 1), ("bottlenecks", 0), ("heads", 0), ("heads", 3), ("max_items", 0), ("patch", 0)]
)
def test_wrong_numbers_are_refused(key: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"model.{key}"):
        UMSEConfig(**{key: value})  # type: ignore[arg-type]
