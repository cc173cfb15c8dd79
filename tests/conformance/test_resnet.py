"""ResNet reads films and nothing else, and takes weights as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmnar.cohort.split import Split
from mmnar.config import TrainConfig
from mmnar.dataset.store import PatientDataset
from mmnar.encoders.image import network_of
from mmnar.encoders.settings import ImageConfig
from mmnar.errors import SchemaError
from mmnar.estimators.fusion import FusionEstimator, FusionPredictor
from mmnar.models.resnet import ResNet, ResNetConfig
from mmnar.schema import ModalitySpec, Schema
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import Items, PatientBatch
from tests.conformance.test_models import mixed
from tests.populations import MIXED, SCHEMA, mixed_population

TINY = ImageConfig("tiny")
FILM = MIXED.modality_names.index("film")
WIDTH = 8


def model(schema: Schema = MIXED, **changes: Any) -> ResNet:
    torch.manual_seed(0)
    return ResNet(schema, ResNetConfig(**{"width": WIDTH, "dropout": 0.0, "image": TINY} | changes)).eval()


def with_a_side_view(b: PatientBatch) -> PatientBatch:
    """A second modality of films, which others have."""
    spec = ModalitySpec("side", kind="image", shape=(32, 32))
    order = torch.arange(len(b)).roll(2)
    return replace(
        b,
        schema=replace(b.schema, modalities=(*b.schema.modalities, spec)),
        modalities={**b.modalities, "side": b.modalities["film"].take(order)},
        present=torch.cat([b.present, b.present[order, FILM : FILM + 1]], 1),
        checked=False,
    )


@torch.no_grad()
def test_logits_by_hand_of_no_film_one_and_two() -> None:
    b = with_a_side_view(mixed())
    m = model(b.schema)
    films = b.present[:, FILM:]
    assert {int(n) for n in films.sum(1)} == {0, 1, 2}
    got, vectors = m(b).logits, [[] for _ in range(len(b))]  # type: ignore[var-annotated]
    for encoder, name in zip(m.encoders, ("film", "side"), strict=True):
        content = b.modalities[name]
        for i in range(len(b)):
            if int(content.counts[i]):  # type: ignore[union-attr]
                vectors[i].append(encoder(content.take(torch.tensor([i])))[0])
    for i, own in enumerate(vectors):
        h = sum(own) / len(own) if own else m.null
        want = m.head.net.weight @ h + m.head.net.bias  # type: ignore[operator]
        torch.testing.assert_close(got[i], want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_nothing_but_films_tells() -> None:
    b, m = mixed(), model()
    films = torch.zeros_like(b.present)
    films[:, FILM] = True
    logits = m(b).logits
    assert torch.equal(m(b.drop(films)).logits, logits)
    without = logits[~b.present[:, FILM]]
    assert len(without) > 5
    assert torch.equal(without, without[:1].expand_as(without))
    assert float(logits[b.present[:, FILM]].std(0).min()) > 1e-3
    other = b.take(torch.arange(len(b)).flip(0))
    shown = replace(b, modalities={**b.modalities, "film": other.modalities["film"]}, checked=True)  # behind the mask
    assert torch.equal(m(shown).logits[~b.present[:, FILM]], without)


def test_who_has_no_film_has_a_risk_that_is_learnt() -> None:
    b = mixed()
    b = b.drop((torch.arange(MIXED.modality_names.index("film") + 1) != FILM).expand_as(b.present))
    labels = torch.tensor([[1.0, 0.0]]).repeat(len(b), 1)
    labels[::4] = 0.0
    b, m = replace(b, labels=labels, label_mask=labels >= 0, checked=True), model()
    settings = TrainConfig(min_steps=0, max_epochs=40, patience=40, batch_size=64, lr=0.1, weight_decay=0.0)
    train(m, b, b, settings, 0, Silent())
    with torch.no_grad():
        assert (torch.sigmoid(m(b).logits) - labels.mean(0)).abs().max() < 0.1


def weights(file: Path) -> dict[str, Tensor]:
    """A file as of a network trained elsewhere with batch normalisation and three channels."""
    torch.manual_seed(1)
    state = network_of(ImageConfig("tiny", "elsewhere", norm="frozen", channels=3), 1000).state_dict()
    for name, value in state.items():
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    torch.save(state, file)
    return state


def fitted(data: PatientDataset, file: Path, **changes: Any) -> FusionPredictor:
    image = ImageConfig("tiny", str(file), "frozen", 3, **changes)
    settings = TrainConfig(min_steps=0, max_epochs=2, batch_size=32, lr=1e-2)
    split = Split(tune=0.2, test=0.0)
    recipe = FusionEstimator("resnet", ResNetConfig(width=WIDTH, image=image), settings)
    return recipe.fit(data.fold(split, "train"), data.fold(split, "tune"))


def test_it_starts_from_a_file_whose_statistics_stay(tmp_path: Path) -> None:
    state = weights(tmp_path / "weights.pth")
    data = mixed_population(80)
    (encoder,) = fitted(data, tmp_path / "weights.pth").network.encoders  # type: ignore[misc,union-attr]
    trained = encoder.backbone.state_dict()
    statistics = {name for name in state if name.endswith(("running_mean", "running_var"))}
    assert len(statistics) == 24
    for name in state.keys() - {"fc.weight", "fc.bias"}:
        assert torch.equal(trained[name], state[name]) == (name in statistics), name
    assert trained["fc.weight"].shape == (WIDTH, 64)  # the file's layer for its thousand classes is not taken
    (frozen,) = fitted(data, tmp_path / "weights.pth", frozen=True).network.encoders  # type: ignore[misc,union-attr]
    kept = frozen.backbone.state_dict()
    assert all(torch.equal(kept[name], state[name]) for name in state.keys() - {"fc.weight", "fc.bias"})


@pytest.mark.parametrize(
    "change",
    [
        {"width": 16},
        {"dropout": 0.5},
        {"append_pattern": True},
        {"image": ImageConfig("tiny", augment="none")},
        {"image": ImageConfig("tiny", channels=3)},
    ],
)
def test_every_setting_changes_the_logits(change: dict[str, Any]) -> None:
    b, logits = mixed(), []
    for settings in ({}, change):
        m = model(**settings).train()
        torch.manual_seed(1)
        logits.append(m(b).logits)
    assert not torch.allclose(*logits, atol=1e-4)


def test_without_films_there_is_nothing_to_read() -> None:
    with pytest.raises(SchemaError):
        model(SCHEMA)
    assert ResNet.card.refuses(SCHEMA) == "needs a modality of kind image, the data has static"


def test_the_age_of_a_film_tells() -> None:
    b, m = mixed(), model()
    film = b.modalities["film"]
    assert isinstance(film, Items)
    older = replace(b, modalities={**b.modalities, "film": replace(film, hours=film.hours - 24)}, checked=True)
    changed = (m(older).logits != m(b).logits).any(1)
    assert torch.equal(changed, b.present[:, FILM])
