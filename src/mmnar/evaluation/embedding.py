"""What a representation knows of the observation pattern (CRL-MMNAR paper, C.6), beside the commonest one's share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mmnar.errors import SchemaError
from mmnar.ops.threads import one_thread
from mmnar.privacy import SMALL_CELL

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Embedding:
    """Of n samples in G patterns of at least ten patients each.

    Args:
        decoded: Share of samples whose pattern a linear probe reads off the representation, cross-validated by patient.
        majority: The same for always naming the commonest pattern.
        norms: (lowest, highest) mean norm of a pattern.
        norm_outcome: task → Spearman correlation over patterns of mean norm and outcome rate, and its p-value;
            a task with fewer than four patterns, or where either is the same in all of them, is not in it.
        patterns: G.
        samples: n.
    """

    decoded: float
    majority: float
    norms: tuple[float, float]
    norm_outcome: dict[str, tuple[float, float]]
    patterns: int
    samples: int


@one_thread
def embedding_analysis(
    representation: Float, present: Bool, subject_id: Int, labels: Bool, label_mask: Bool, tasks: tuple[str, ...]
) -> Embedding:
    """Probe a representation for the pattern, and set its norm beside outcomes.

    Args:
        representation: (n, D) of samples that nothing was fitted on.
        present: (n, M).
        subject_id: (n,) so that no patient is in the probe's training and test part at once.
        labels, label_mask: (n, K).
        tasks: K names.

    Raises:
        SchemaError: Fewer than two patterns of ten patients.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _, index = np.unique(present, axis=0, return_inverse=True)
    index = index.reshape(-1)
    large = [g for g in np.unique(index) if len(np.unique(subject_id[index == g])) >= SMALL_CELL]
    if len(large) < 2:
        raise SchemaError("embedding", "two patterns of ten patients", f"{len(large)}", "use more samples")
    kept = np.isin(index, large)
    h, pattern, subject = representation[kept], index[kept], subject_id[kept]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=500))
    guessed = cross_val_predict(probe, h, pattern, groups=subject, cv=GroupKFold(5))
    norm = np.linalg.norm(h, axis=1)
    means = np.array([norm[pattern == g].mean() for g in large])
    rates = {}
    for k, task in enumerate(tasks):
        asked = label_mask[kept, k]
        y = labels[kept, k]
        rate = [y[asked & (pattern == g)].mean() if (asked & (pattern == g)).any() else np.nan for g in large]
        known = np.isfinite(rate)
        pair = means[known], np.array(rate)[known]
        if known.sum() >= 4 and all(np.ptp(values) > 0 for values in pair):
            found = stats.spearmanr(*pair)
            rates[task] = (float(found.statistic), float(found.pvalue))
    return Embedding(
        decoded=float((guessed == pattern).mean()),
        majority=float(np.bincount(pattern).max() / len(pattern)),
        norms=(float(means.min()), float(means.max())),
        norm_outcome=rates,
        patterns=len(large),
        samples=int(kept.sum()),
    )
