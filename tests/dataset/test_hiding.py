"""A modality hidden from a fold is one dropped from its batch, whatever its kind."""

from __future__ import annotations

import torch

from mmnar.cohort.split import Split
from mmnar.dataset.preprocess import Preprocessor
from tests.populations import mixed_population


def test_hiding_is_dropping() -> None:
    data = mixed_population(120)
    fold = data.fold(Split(), "test")
    preprocessor = Preprocessor.fit(data.fold(Split(), "train"))
    whole = preprocessor.transform(fold)
    for i, name in enumerate(data.schema.modality_names):
        left = torch.ones_like(whole.present)
        left[:, i] = False
        dropped, hidden = whole.drop(left), preprocessor.transform(fold.hiding(name))
        assert torch.equal(hidden.present, dropped.present)
        assert whole.present[:, i].any()
        for other in data.schema.modality_names:
            ours, theirs = vars(hidden.modalities[other]), vars(dropped.modalities[other])
            assert ours.keys() == theirs.keys()
            for part, tensor in ours.items():
                assert not torch.is_tensor(tensor) or torch.equal(tensor, theirs[part]), (name, other, part)
    assert torch.equal(preprocessor.transform(fold).present, whole.present)
