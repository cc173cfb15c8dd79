"""Hashed notes: counts against a dictionary, idf and SVD against scikit-learn and a dense decomposition."""

from __future__ import annotations

import subprocess
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfTransformer

from mmnar.errors import ConfigError, SchemaError
from mmnar.notes import FittedHashing, HashedNotes, HashedText, HashingSVD

BUCKETS = 512
TERMS = np.array([f"term{i}" for i in range(150)])


def some_notes(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, len(TERMS) + 1)
    return [" ".join(rng.choice(TERMS, rng.integers(5, 60), p=chances / chances.sum())) for _ in range(n)]


def dense(hashed: HashedNotes) -> NDArray[np.float64]:
    counts = np.zeros((len(hashed.starts) - 1, BUCKETS))
    for row, (a, b) in enumerate(pairwise(hashed.starts)):
        counts[row, hashed.buckets[a:b]] = hashed.counts[a:b]
    return counts


@pytest.fixture(scope="module")
def train() -> HashedNotes:
    return HashedText(BUCKETS).encode([*some_notes(300, 0), "___"])


@pytest.fixture(scope="module")
def fitted(train: HashedNotes) -> FittedHashing:
    return HashingSVD(16, BUCKETS).fit(train.buckets, train.counts, train.starts)


def test_counts_by_hand() -> None:
    hashed = HashedText(4096).encode(["Chest pain. CHEST pain ___", "", "x"])
    grams = {"chest": 2, "pain": 2, "chest pain": 2, "pain chest": 1}
    assert hashed.starts.tolist() == [0, 4, 4, 5]
    assert dict(zip(hashed.buckets[:4].tolist(), hashed.counts[:4].tolist(), strict=True)) == {
        zlib.crc32(gram.encode()) % 4096: count for gram, count in grams.items()
    }
    assert (hashed.buckets.dtype, hashed.counts.dtype, hashed.starts.dtype) == (np.int32, np.float32, np.int64)
    assert (np.diff(hashed.buckets[:4]) > 0).all()


def test_counts_are_those_of_any_other_process() -> None:
    code = "from mmnar.notes import HashedText; print(HashedText().encode(['Fever and cough']).buckets.tolist())"
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(HashedText().encode(["Fever and cough"]).buckets.tolist())


def test_weights_are_those_of_scikit_learn(train: HashedNotes, fitted: FittedHashing) -> None:
    """All but the blank note; its own idf convention leaves unused buckets with a weight, ours with none."""
    counts = dense(train)[:-1]
    referee = TfidfTransformer(sublinear_tf=True, smooth_idf=True).fit(counts)
    used = counts.sum(0) > 0
    np.testing.assert_allclose(fitted.idf[used], referee.idf_[used], rtol=1e-12)
    assert (fitted.idf[~used] == 0).all()
    expected = referee.transform(counts).toarray() @ fitted.components.astype(np.float64)
    np.testing.assert_allclose(fitted.transform(train.buckets, train.counts, train.starts)[:-1], expected, atol=1e-6)


def test_components_are_those_of_a_full_decomposition(train: HashedNotes, fitted: FittedHashing) -> None:
    """Energy captured, within 1 % of the best possible; orthonormal; signs fixed."""
    weights = TfidfTransformer(sublinear_tf=True).fit_transform(dense(train)[:-1]).toarray()
    best = (np.linalg.svd(weights, compute_uv=False)[:16] ** 2).sum()
    components = fitted.components.astype(np.float64)
    assert best * 0.99 <= ((weights @ components) ** 2).sum() <= best * 1.000001
    np.testing.assert_allclose(components.T @ components, np.eye(16), atol=1e-5)
    assert (components[np.abs(components).argmax(0), np.arange(16)] > 0).all()


def test_a_note_does_not_depend_on_its_company(fitted: FittedHashing) -> None:
    texts = [*some_notes(60, 1), "___", "unheard of words"]
    hashed = HashedText(BUCKETS)
    together = hashed.encode(texts)
    company = fitted.transform(together.buckets, together.counts, together.starts)
    for row, text in enumerate(texts):
        alone = hashed.encode([text])
        vector = fitted.transform(alone.buckets, alone.counts, alone.starts)
        assert vector.tobytes() == company[row].tobytes()
    assert company.dtype == np.float32
    assert not company[-2].any()


def test_fit_is_deterministic_and_survives_saving(train: HashedNotes, fitted: FittedHashing) -> None:
    again = HashingSVD(16, BUCKETS).fit(train.buckets, train.counts, train.starts)
    assert again.components.tobytes() == fitted.components.tobytes()
    loaded = FittedHashing.from_arrays({k: v.copy() for k, v in fitted.arrays().items()})
    ours, theirs = (f.transform(train.buckets, train.counts, train.starts) for f in (fitted, loaded))
    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("texts", [[], ["___"], ["one"], ["one two", "one two"]])
def test_few_notes_leave_zeros(texts: list[str]) -> None:
    hashed = HashedText(BUCKETS).encode(texts)
    fitted = HashingSVD(16, BUCKETS).fit(hashed.buckets, hashed.counts, hashed.starts)
    vectors = fitted.transform(hashed.buckets, hashed.counts, hashed.starts)
    assert vectors.shape == (len(texts), 16)
    assert np.isfinite(vectors).all()
    spoken = [text != "___" for text in texts]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), np.array(spoken, dtype=float), atol=1e-6)


def test_refusals(fitted: FittedHashing) -> None:
    with pytest.raises(ConfigError):
        HashedText(1)
    with pytest.raises(SchemaError, match="buckets below 512"):
        fitted.transform(np.array([512], np.int32), np.ones(1, np.float32), np.array([0, 1]))
    with pytest.raises(SchemaError, match="starts that cover"):
        fitted.transform(np.array([5], np.int32), np.ones(1, np.float32), np.array([0, 2]))
