"""What a representation knows of the pattern, where the answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmnar.errors import SchemaError
from mmnar.evaluation.embedding import Embedding, embedding_analysis


def analysed(
    representation: Any, group: np.ndarray, subject: np.ndarray | None = None, labels: Any = None
) -> Embedding:
    """Patterns numbered by ``group``, three modalities; one task."""
    n = len(group)
    present = (group[:, None] >> np.arange(3)) % 2 == 1
    y = np.zeros((n, 1), dtype=bool) if labels is None else labels
    ids = np.arange(n) if subject is None else subject
    return embedding_analysis(representation, present, ids, y, np.ones((n, 1), dtype=bool), ("death",))


@pytest.fixture
def group() -> np.ndarray:
    return np.random.default_rng(0).choice(5, 1000, p=[0.4, 0.3, 0.1, 0.1, 0.1])


def test_a_representation_that_holds_the_pattern_is_decoded(group: np.ndarray) -> None:
    found = analysed(np.eye(5)[group] + np.random.default_rng(1).normal(0, 0.01, (1000, 5)), group)
    assert found.decoded == 1.0
    assert found.majority == pytest.approx((group == 0).mean())
    assert (found.patterns, found.samples) == (5, 1000)
    assert found.norm_outcome == {}  # nobody has the outcome, so there is nothing to correlate


def test_noise_is_no_better_than_the_commonest_pattern(group: np.ndarray) -> None:
    found = analysed(np.random.default_rng(1).normal(size=(1000, 4)), group)
    assert found.decoded == pytest.approx(found.majority, abs=0.03)


def test_norms_and_their_correlation_by_hand(group: np.ndarray) -> None:
    """Norm 1 + g and an outcome rate that rises with g: the ranks agree over all five patterns."""
    direction = np.ones((1000, 2)) / np.sqrt(2)
    place = np.array([np.flatnonzero(group == g).tolist().index(i) for i, g in enumerate(group)])
    size = np.bincount(group)[group]
    labels = (place < size * (0.1 + 0.15 * group))[:, None]
    found = analysed(direction * (1.0 + group)[:, None], group, labels=labels)
    assert found.norms == pytest.approx((1.0, 5.0))
    assert found.norm_outcome["death"][0] == pytest.approx(1.0)


def test_patterns_of_fewer_than_ten_patients_are_left_out(group: np.ndarray) -> None:
    rare = group.copy()
    rare[:20] = 7  # twenty samples of nine patients
    subject = np.arange(1000)
    subject[:20] = np.arange(20) % 9
    found = analysed(np.random.default_rng(1).normal(size=(1000, 2)), rare, subject)
    assert (found.patterns, found.samples) == (5, 980)
    with pytest.raises(SchemaError, match="two patterns"):
        analysed(np.zeros((1000, 2)), np.zeros(1000, dtype=int))


def test_a_patient_is_never_in_both_parts_of_the_probe() -> None:
    """Ten samples a patient, a pattern and a mark of their own: only a leak could decode it."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 10)
    pattern = rng.integers(0, 2, 60)[patient]
    marks = np.eye(60)[patient]
    assert analysed(marks, pattern, patient).decoded < 0.65
    assert analysed(marks, pattern).decoded == 1.0
