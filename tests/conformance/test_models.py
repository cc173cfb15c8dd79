"""Every registered deep model keeps every promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmnar.cohort.split import Split
from mmnar.config import TrainConfig
from mmnar.dataset.preprocess import Preprocessor
from mmnar.models.base import Model
from mmnar.models.registry import MODELS, model_class
from mmnar.ops.losses import masked_label_loss
from mmnar.schema import Schema
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import Items, PatientBatch, Series, Static
from tests.populations import MIXED, SCHEMA, mixed_population, population

NAMES = sorted(MODELS)


def batch(n: int = 60, seed: int = 0) -> PatientBatch:
    data = population(n, seed)
    fold = data.fold(Split(tune=0.1, test=0.1), "train")
    return Preprocessor.fit(fold).transform(fold)


def mixed(n: int = 60, seed: int = 0) -> PatientBatch:
    """One modality of every kind."""
    fold = mixed_population(n, seed).fold(Split(tune=0.1, test=0.1), "train")
    return Preprocessor.fit(fold).transform(fold)


def build(name: str, seed: int = 0, schema: Schema = MIXED) -> Model:
    torch.manual_seed(seed)
    kind = model_class(name)
    return kind(schema, kind.Config(width=32))


def task_loss(logits: torch.Tensor, b: PatientBatch) -> torch.Tensor:
    return masked_label_loss(logits, b.labels, b.label_mask, torch.ones(2))


def test_registry_and_folder_agree() -> None:
    import mmnar.models

    files = {p.stem for p in Path(mmnar.models.__path__[0]).glob("*.py")} - {"__init__", "base", "registry"}
    assert {target.split(":")[0].rsplit(".", 1)[1] for target in MODELS.values()} == files


@pytest.mark.parametrize("name", NAMES)
def test_finite_logits_and_representation(name: str) -> None:
    b = mixed()
    out = build(name).eval()(b)
    assert out.logits.shape == (len(b), 2)
    assert out.representation.shape[0] == len(b)
    assert torch.isfinite(out.logits).all()
    assert torch.isfinite(out.representation).all()


@pytest.mark.parametrize("name", NAMES)
def test_content_behind_an_absent_modality_moves_nothing(name: str) -> None:
    b = mixed()
    poisoned = {key: poison(key, m, b.present[:, i]) for i, (key, m) in enumerate(b.modalities.items())}
    model = build(name).eval()
    assert all(len(poisoned[k].values) >= len(b.modalities[k].values) for k in poisoned)
    assert not torch.equal(poisoned["labs"].values, b.modalities["labs"].values)
    assert torch.equal(model(replace(b, modalities=poisoned, checked=True)).logits, model(b).logits)


def poison(name: str, m: Static | Series | Items, present: torch.Tensor) -> Static | Series | Items:
    """Content in the rows that do not have the modality."""
    if isinstance(m, Static):
        absent = ~present[:, None].expand_as(m.values)
        # category indices must stay legal, or the embedding would refuse before the model can be judged
        bad = torch.ones_like(m.values) if name == "unit" else torch.full_like(m.values, 1e3)
        return Static(torch.where(absent, bad, m.values), m.observed | absent)
    donor = int(m.counts.argmax())  # every patient without items gets this one's
    rows = torch.where(present, torch.arange(len(present)), donor)
    return m.take(rows)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("only", range(8))
def test_works_with_any_one_modality_or_none(name: str, only: int) -> None:
    b = mixed()
    present = torch.zeros_like(b.present)
    if only < 7:
        present[:, only] = True
    out = build(name).eval()(b.drop(present))
    assert torch.isfinite(out.logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_same_risk_alone_shuffled_or_in_company(name: str) -> None:
    b, model = mixed(), build(name).eval()
    together = model(b).logits
    order = torch.randperm(len(b))
    assert torch.allclose(model(b.take(order)).logits, together[order], atol=1e-5)
    alone = torch.cat([model(b.take(torch.tensor([i]))).logits for i in range(len(b))])
    assert torch.allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_masked_labels_give_no_gradient(name: str) -> None:
    b = mixed()
    gradients = []
    for flip in (False, True):
        labels = torch.where(b.label_mask, b.labels, float(flip))
        model = build(name)
        torch.manual_seed(1)
        for objective in model.objectives(replace(b, labels=labels, checked=True), model.train(), task_loss):
            objective.total.backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, c in zip(*gradients, strict=True):
        assert (a is None and c is None) or torch.equal(a, c)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_trains_and_names_match(name: str) -> None:
    model, b = build(name).train(), mixed()
    empty = b.take(torch.arange(len(b))).drop(torch.zeros_like(b.present))
    for part in (b, empty):  # a null vector trains only where nothing is present
        for objective in model.objectives(part, model, task_loss):
            assert set(objective.terms) <= set(model.loss_weights)
            objective.total.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bits(name: str) -> None:
    b = batch(120)
    states = []
    for _ in range(2):
        model = build(name, schema=SCHEMA)
        train(model, b, b, TrainConfig(min_steps=0, max_epochs=2, batch_size=32), 3, Silent())
        states.append(model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize("name", NAMES)
def test_overfits_32_patients(name: str) -> None:
    b = batch(60).take(torch.arange(32))
    kind = model_class(name)
    torch.manual_seed(0)
    model = kind(SCHEMA, kind.Config(width=32, dropout=0.0))
    config = TrainConfig(min_steps=0, max_epochs=150, batch_size=32, patience=150, lr=3e-3, weight_decay=0.0)
    history = train(model, b, b, config, 0, Silent())
    assert min(h["tune"]["task"] for h in history) < 0.08
