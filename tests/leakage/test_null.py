"""Permuted labels give AUROC ≈ .5 end to end for every method: out of fold and in the test fold, rectified or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset
from mmnar.estimators.cross import cross_fit
from mmnar.estimators.registry import estimator, model_names
from mmnar.posthoc.rectify import LatticeRectifier, ThresholdRectifier
from tests.populations import mixed_population, population
from tests.recipes import quick


@pytest.mark.parametrize("name", model_names())
def test_permuted_labels_give_chance(name: str) -> None:
    data = data_for(name)
    rng = np.random.default_rng(12)
    data = replace(data, labels=data.labels[rng.permutation(len(data))] & data.label_mask)
    split = Split(tune=0.15, test=0.45)
    words = (*quick(name), *(["model.image.backbone=tiny"] if "film" in data.schema.modality_names else []))
    crossed = cross_fit(estimator(name, *words), data.fold(split, "development"), 2)
    base = crossed.predictor.predict(data.fold(split, "test"))
    rectified = [rule.fit(crossed.out_of_fold).apply(base) for rule in (LatticeRectifier(), ThresholdRectifier())]
    for scored in (base, *rectified, crossed.out_of_fold.as_validation()):
        for k in range(2):
            asked = scored.label_mask[:, k]
            auroc = roc_auc_score(scored.labels[asked, k], scored.proba[asked, k])
            assert 0.45 <= auroc <= 0.55, (name, scored.provenance, k)


def data_for(name: str) -> PatientDataset:
    """Static modalities, or a series, or a series and a film where the method needs one."""
    data = population(12_000, seed=11)
    if estimator(name, *quick(name)).refuses(data.schema) is None:
        return data
    series = only(mixed_population(12_000, seed=11), ("series",))
    if estimator(name, *quick(name)).refuses(series.schema) is None:
        return series
    return only(mixed_population(6000, seed=11), ("series", "image"))


def only(data: PatientDataset, kinds: tuple[str, ...]) -> PatientDataset:
    """The modalities of some kinds alone."""
    at = [i for i, spec in enumerate(data.schema.modalities) if spec.kind in kinds]
    specs = tuple(data.schema.modalities[i] for i in at)
    return replace(
        data,
        schema=replace(data.schema, modalities=specs),
        values={spec.name: data.values[spec.name] for spec in specs},
        present=data.present[:, at],
    )
