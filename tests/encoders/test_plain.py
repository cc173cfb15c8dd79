"""The untrained vectors against numpy over a patient's own items."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmnar.cohort.split import Split
from mmnar.dataset.preprocess import Preprocessor
from mmnar.encoders import plain
from mmnar.encoders.plain import PlainVectors
from mmnar.types import PatientBatch
from tests.populations import MIXED, mixed_population


def mixed() -> PatientBatch:
    fold = mixed_population(300).fold(Split(tune=0.1, test=0.1), "train")
    return Preprocessor.fit(fold).transform(fold)


def test_each_kind_by_hand() -> None:
    b = mixed()
    vectors = PlainVectors(MIXED)
    parts = dict(zip(MIXED.modality_names, vectors(b), strict=True))  # not yet standardised
    assert tuple(x.shape[1] for x, _ in parts.values()) == vectors.widths

    unit, known = parts["unit"]  # a category of three, then a number: numbers come first
    i = int(b.modalities["unit"].observed.all(1).nonzero()[0])
    want = [float(b.modalities["unit"].values[i, 1]), 0.0, 0.0, 0.0]
    want[1 + int(b.modalities["unit"].values[i, 0])] = 1.0
    assert unit[i].tolist() == want
    assert known[i].all()

    course = b.modalities["course"]
    x, known = parts["course"]
    for i in range(20):
        mine = course.patient == i
        for f in range(3):
            v = course.values[mine & (course.feature == f)].double().numpy()
            got = x[i].view(3, 7)[f].numpy()
            if len(v):
                hand = [v[0], v[-1], v.min(), v.max(), v.mean(), v.std(), np.log1p(len(v))]
                assert np.allclose(got, hand, atol=1e-5)
            assert known[i].view(3, 7)[f].tolist() == [len(v) > 0] * 6 + [bool(mine.any())]

    note = b.modalities["note"]
    i = int((note.counts > 1).nonzero()[0])
    assert torch.allclose(parts["note"][0][i], note.values[note.patient == i].mean(0), atol=1e-6)

    film = b.modalities["film"]
    i = int((film.counts == 1).nonzero()[0])
    tiles = film.values[film.patient == i][0].double().view(8, 4, 8, 4).mean((1, 3)) / 255
    assert torch.allclose(parts["film"][0][i].double(), tiles.flatten(), atol=1e-6)


def test_known_numbers_are_standardised_on_the_fold_indicators_centred_and_the_rest_is_zero() -> None:
    b = mixed()
    vectors = PlainVectors(MIXED)
    vectors.fit(b)
    for (x, known), i in zip(vectors(b), range(len(MIXED.modalities)), strict=True):
        assert not known[~b.present[:, i]].any()
        assert (x[~known] == 0).all()
        n = known.sum(0)
        assert torch.allclose(x.sum(0)[n > 0] / n[n > 0], torch.zeros_like(x[0])[n > 0], atol=1e-4)
        spread = ((x**2).sum(0) / n.clamp(min=1)).sqrt()
        numbers = slice(0, 1 if MIXED.modality_names[i] == "unit" else None)
        assert ((spread - 1).abs() < 1e-3)[numbers][spread[numbers] > 1e-3].all()
        assert torch.isfinite(x).all()


def test_a_rare_category_is_no_loud_one() -> None:
    """Standardised, the indicator of one patient in 240 is 15; three categories weigh as three numbers."""
    b = mixed()
    unit = b.modalities["unit"]
    has = unit.observed[:, 0] & b.present[:, 2]
    unit.values[has, 0] = 0.0
    unit.values[has.nonzero()[0], 0] = 2.0
    vectors = PlainVectors(MIXED)
    vectors.fit(b)
    x, known = vectors(b)[2]
    share = 1 / int(has.sum())
    rare = x[has, 1:]  # the number comes first
    assert torch.allclose(rare[0], torch.tensor([share - 1, 0, 1 - share]), atol=1e-5)
    assert torch.allclose(rare[1], torch.tensor([share, 0, -share]), atol=1e-5)
    assert (x[~known] == 0).all()


def test_the_fold_is_seen_in_chunks_and_gives_the_whole_folds_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    b = mixed()
    sizes, one, vector = [], PlainVectors(MIXED), plain._vector
    parts = [vector(spec, b.modalities[spec.name], b.present[:, m]) for m, spec in enumerate(MIXED.modalities)]

    def watched(*args: object) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(args[2]))  # type: ignore[arg-type]
        return vector(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(plain, "_vector", watched)
    monkeypatch.setattr(plain, "FIT_ROWS", 17)
    one.fit(b)
    assert max(sizes) == 17
    for m, (x, known) in enumerate(parts):
        for f in range(x.shape[1]):
            values = x[known[:, f], f].double()
            mean, scale = one.get_buffer(f"mean{m}")[f], one.get_buffer(f"scale{m}")[f]
            want = values.std(correction=0).item() if len(values) else 0.0
            assert abs(mean.item() - (values.mean().item() if len(values) else 0.0)) < 1e-6
            indicator = MIXED.modality_names[m] == "unit" and f > 0
            assert abs(scale.item() - (want if want > 1e-6 and not indicator else 1.0)) < 1e-6
