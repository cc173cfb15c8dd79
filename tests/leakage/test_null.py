"""Permuted labels give AUROC ≈ .5 end to end for every method, before and after the rectifier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset
from mmnar.estimators.cross import cross_predict
from mmnar.estimators.registry import estimator, model_names
from mmnar.models.registry import MODELS
from mmnar.posthoc.rectify import LatticeRectifier, ThresholdRectifier
from tests.populations import mixed_population, population


@pytest.mark.parametrize("name", model_names())
def test_permuted_labels_give_chance(name: str) -> None:
    data = data_for(name)
    rng = np.random.default_rng(12)
    data = replace(data, labels=data.labels[rng.permutation(len(data))] & data.label_mask)
    split = Split(tune=0.15, test=0.45)
    train, tune, test = data.fold(split, "train"), data.fold(split, "tune"), data.fold(split, "test")
    quick = ("train.min_steps=0", "train.max_epochs=2", "model.width=16") if name in MODELS else ()
    recipe = estimator(name, *quick)
    base = recipe.fit(train, tune).predict(test)
    calibration = cross_predict(recipe, train, tune, folds=2)
    for rule in (None, LatticeRectifier(), ThresholdRectifier()):
        scored = rule.fit(calibration).apply(base) if rule else base
        for k in range(2):
            asked = scored.label_mask[:, k]
            auroc = roc_auc_score(scored.labels[asked, k], scored.proba[asked, k])
            assert 0.45 <= auroc <= 0.55, (name, rule, k)


def data_for(name: str) -> PatientDataset:
    """Static modalities, or a series alone where the method needs one."""
    data = population(12_000, seed=11)
    if estimator(name).refuses(data.schema) is None:
        return data
    data = mixed_population(12_000, seed=11)
    (i,) = (i for i, spec in enumerate(data.schema.modalities) if spec.kind == "series")
    spec = data.schema.modalities[i]
    return replace(
        data,
        schema=replace(data.schema, modalities=(spec,)),
        values={spec.name: data.values[spec.name]},
        present=data.present[:, i : i + 1],
    )
