"""Every registered deep model keeps every promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmnar.cohort.split import Split
from mmnar.config import TrainConfig
from mmnar.dataset.preprocess import Preprocessor
from mmnar.encoders.image import ImageEncoder
from mmnar.encoders.series import LSTMEncoder, SeriesEncoder, TransformerEncoder
from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.encoders.stream import SeriesStream
from mmnar.models.base import Model
from mmnar.models.registry import MODELS, model_class
from mmnar.ops.losses import masked_label_loss, mean_label_loss
from mmnar.schema import Schema
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import Items, PatientBatch, Series, Static
from tests.populations import MIXED, mixed_population, population

NAMES = sorted(MODELS)
LEAST: dict[str, dict[str, object]] = {
    "aug": {"blocks": 1, "every": 1},
    "healnet": {"latents": 4, "step": 4.0},
    "hgmf": {"least": 1},  # counts patients: it has its types
    "lstm": {"step": 4.0},
    "resnet": {"image": ImageConfig("tiny")},
    "transformer": {"step": 4.0},
    "unified": {"least": 1},
}
"""Sizes for populations of sixty."""


def batch(n: int = 60, seed: int = 0) -> PatientBatch:
    data = population(n, seed)
    fold = data.fold(Split(tune=0.1, test=0.1), "train")
    return Preprocessor.fit(fold).transform(fold)


def mixed(n: int = 60, seed: int = 0) -> PatientBatch:
    """One modality of every kind."""
    fold = mixed_population(n, seed).fold(Split(tune=0.1, test=0.1), "train")
    return Preprocessor.fit(fold).transform(fold)


def build(name: str, seed: int = 0, schema: Schema = MIXED, **changes: object) -> Model:
    """As constructed, in training mode."""
    torch.manual_seed(seed)
    kind = model_class(name)
    return kind(schema, kind.Config(width=32, **LEAST.get(name, {}) | changes))


def tiny(name: str) -> dict[str, object]:
    """The smallest image network, where the method has one."""
    return {"image": ImageConfig("tiny")} if hasattr(model_class(name).Config(), "image") else {}


def seen(name: str, data: PatientBatch, seed: int = 0, **changes: object) -> Model:
    """As constructed and with everything it takes from the training fold, ready to predict."""
    model = build(name, seed, data.schema, **changes).eval()
    model.prepare(data)
    with torch.no_grad():
        for phase in model.phases():
            model.loss_weights = phase.weights
            model.begin_phase(phase, data)
            model.after_epoch(data)
    return model


def small(name: str, n: int = 60) -> PatientBatch:
    """Static modalities, and others where the method needs them, of patients who have those."""
    b, card = batch(n), model_class(name).card
    if card.refuses(b.schema) is None:
        return b
    b = mixed(4 * n)
    needed = tuple(spec.name for spec in b.schema.modalities if spec.kind in card.needs)
    b = only(b, ("vitals", "labs", *needed))
    return b.take(b.present[:, 2:].all(1).nonzero().squeeze(1)[:n])


def only(b: PatientBatch, names: tuple[str, ...]) -> PatientBatch:
    """The batch of some modalities."""
    index = [b.schema.modality_names.index(name) for name in names]
    schema = replace(b.schema, modalities=tuple(b.schema.modalities[i] for i in index))
    return replace(
        b,
        schema=schema,
        modalities={name: b.modalities[name] for name in names},
        present=b.present[:, index],
        checked=False,
    )


def task_loss(logits: torch.Tensor, b: PatientBatch) -> torch.Tensor:
    return masked_label_loss(logits, b.labels, b.label_mask, torch.ones(2))


def test_registry_and_folder_agree() -> None:
    import mmnar.models

    files = {p.stem for p in Path(mmnar.models.__path__[0]).glob("*.py")} - {"__init__", "base", "registry"}
    assert {target.split(":")[0].rsplit(".", 1)[1] for target in MODELS.values()} == files


@pytest.mark.parametrize("name", NAMES)
def test_finite_logits_and_representation(name: str) -> None:
    b = mixed()
    out = seen(name, b)(b)
    assert out.logits.shape == (len(b), 2)
    assert out.representation.shape[0] == len(b)
    assert torch.isfinite(out.logits).all()
    assert torch.isfinite(out.representation).all()


@pytest.mark.parametrize("name", NAMES)
def test_content_behind_an_absent_modality_moves_nothing(name: str) -> None:
    b = mixed()
    poisoned = {key: poison(key, m, b.present[:, i]) for i, (key, m) in enumerate(b.modalities.items())}
    model = seen(name, b)
    assert all(len(poisoned[k].values) >= len(b.modalities[k].values) for k in poisoned)
    assert not torch.equal(poisoned["labs"].values, b.modalities["labs"].values)
    bad = replace(b, modalities=poisoned, checked=True)
    assert torch.equal(model(bad).logits, model(b).logits)
    fitted, also = seen(name, bad).state_dict(), model.state_dict()  # nor what is taken from the training fold
    assert all(torch.equal(fitted[key], also[key]) for key in also)


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
def test_every_pattern_gives_a_risk(name: str) -> None:
    """All 2^M of them beside each other; then everybody with the same, nothing at all included."""
    b = mixed(200)
    m = b.present.shape[1]
    model = seen(name, b)
    patterns = ((torch.arange(2**m)[:, None] >> torch.arange(m)) & 1).bool()
    rows = torch.arange(2**m) % len(b)
    assert torch.isfinite(model(b.take(rows).drop(patterns)).logits).all()
    for pattern in (torch.zeros(m, dtype=torch.bool), *torch.eye(m, dtype=torch.bool)):
        assert torch.isfinite(model(b.drop(pattern.expand_as(b.present))).logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_trains_where_a_modality_is_missing_for_everybody(name: str) -> None:
    b = mixed()
    m = b.present.shape[1]
    for pattern in (*(~torch.eye(m, dtype=torch.bool)).unbind(), torch.zeros(m, dtype=torch.bool)):
        part = b.drop(pattern.expand_as(b.present))
        model = seen(name, part).train()
        for phase in model.phases():
            model.loss_weights = phase.weights
            for objective in model.objectives(part, model):
                if objective.total.requires_grad:
                    objective.total.backward()
                assert torch.isfinite(objective.total)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_same_risk_alone_shuffled_or_in_company(name: str) -> None:
    b = mixed()
    model = seen(name, b)
    together = model(b).logits
    order = torch.randperm(len(b))
    assert torch.allclose(model(b.take(order)).logits, together[order], atol=1e-5)
    alone = torch.cat([model(b.take(torch.tensor([i]))).logits for i in range(len(b))])
    assert torch.allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_the_patients_scored_move_nothing(name: str) -> None:
    b = mixed()
    model = seen(name, b)
    others = replace(b, labels=1 - b.labels, label_mask=~b.label_mask, checked=True)
    assert torch.equal(model(others).logits, model(b).logits)


@pytest.mark.parametrize("name", NAMES)
def test_the_pattern_can_be_appended(name: str) -> None:
    b = mixed()
    counts = [sum(p.numel() for p in seen(name, b, append_pattern=how).parameters()) for how in (False, True)]
    assert counts[0] < counts[1]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_asked_of_the_image_encoder_is_used_and_each_image_is_encoded_once(name: str) -> None:
    b = mixed()
    encoders = [m for m in seen(name, b).modules() if isinstance(m, ImageEncoder)]
    if not encoders:  # it sees untrained vectors of the content instead
        assert not hasattr(model_class(name).Config(), "image")
        return
    model = seen(name, b, image=ImageConfig("tiny"))
    encoders = [m for m in model.modules() if isinstance(m, ImageEncoder)]
    assert [e.config.backbone for e in encoders] == ["tiny"]
    encoded: list[int] = []
    # the first layer: methods that act on the maps between stages do not call the network as a whole
    encoders[0].resnet.conv1.register_forward_hook(lambda _, inputs, __: encoded.append(len(inputs[0])))
    for training in (False, True):
        model.train(training)(b)
        assert sum(encoded) == len(b.modalities["film"].values)
        encoded.clear()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_asked_of_the_series_encoder_is_used(name: str) -> None:
    b = mixed()
    if not any(isinstance(m, SeriesEncoder | SeriesStream) for m in seen(name, b).modules()):  # it is its substance
        assert not hasattr(model_class(name).Config(), "series")
        return
    for kind, encoder in (("lstm", LSTMEncoder), ("transformer", TransformerEncoder)):
        model = seen(name, b, series=SeriesConfig(kind, hours=12.0), dropout=0.0)  # type: ignore[arg-type]
        (one,) = (m for m in model.modules() if isinstance(m, (encoder, SeriesStream)))
        assert one.steps.config.hours == 12
        together = model(b).logits
        alone = torch.cat([model(b.take(torch.tensor([i]))).logits for i in range(6)])
        assert torch.allclose(alone, together[:6], atol=1e-4)
        _backward(model.train(), b)
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in one.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_backbone_gets_no_gradient(name: str) -> None:
    b = mixed()
    if not hasattr(model_class(name).Config(), "image"):
        return
    model = seen(name, b, image=ImageConfig("tiny", "a file", frozen=True)).train()
    _backward(model, b)
    (encoder,) = (m for m in model.modules() if isinstance(m, ImageEncoder))
    moved = {n for n, p in encoder.backbone.named_parameters() if p.grad is not None}
    assert moved == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("name", NAMES)
def test_masked_labels_give_no_gradient(name: str) -> None:
    b = mixed()
    gradients = []
    for flip in (False, True):
        labels = torch.where(b.label_mask, b.labels, float(flip))
        model = seen(name, b).train()
        torch.manual_seed(1)
        _backward(model, replace(b, labels=labels, checked=True))
        gradients.append([p.grad for p in model.parameters()])
    for a, c in zip(*gradients, strict=True):
        assert (a is None and c is None) or torch.equal(a, c)


def _backward(model: Model, b: PatientBatch) -> None:
    """Gradients of all phases, summed."""
    for phase in model.phases():
        model.loss_weights = phase.weights
        for objective in model.objectives(b, model):
            assert set(objective.terms) <= set(model.loss_weights)
            if objective.total.requires_grad:
                objective.total.backward()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_trains_and_names_match(name: str) -> None:
    b = mixed()
    model = seen(name, b).train()
    empty = b.take(torch.arange(len(b))).drop(torch.zeros_like(b.present))
    for part in (b, empty):  # a null vector trains only where nothing is present
        _backward(model, part)
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_moves_in_training(name: str) -> None:
    """A gradient is not enough: what no optimizer holds, or a phase freezes for good, stays where it is."""
    b = mixed(40)
    b = b.drop((torch.arange(len(b)) > 2)[:, None].expand_as(b.present))  # somebody has nothing: the null vector
    model, started = build(name), build(name).state_dict()
    settings = TrainConfig(min_steps=0, max_epochs=2, batch_size=40, weight_decay=0.0, patience=9, lr=1e-3)
    moved: set[str] = set()

    class Watch(Silent):
        def epoch(self, record: dict[str, object]) -> None:
            moved.update(n for n, p in model.named_parameters() if not torch.equal(p, started[n]))

    train(model, b, b, settings, 0, Watch())
    assert {n for n, _ in model.named_parameters()} - moved == set()


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bits(name: str) -> None:
    b = small(name, 120)
    states = []
    for _ in range(2):
        model = build(name, schema=b.schema, **tiny(name))
        train(model, b, b, TrainConfig(min_steps=0, max_epochs=2, batch_size=32), 3, Silent())
        states.append(model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.mark.parametrize("name", NAMES)
def test_overfits_32_patients(name: str) -> None:
    b = small(name).take(torch.arange(32))
    model = build(name, schema=b.schema, dropout=0.0, **tiny(name))
    config = TrainConfig(min_steps=0, max_epochs=150, batch_size=32, patience=150, lr=3e-3, weight_decay=0.0)
    history = train(model, b, b, config, 0, Silent())
    rate = (b.labels * b.label_mask).sum(0) / b.label_mask.sum(0)
    constant = float(mean_label_loss(rate.logit().expand_as(b.labels), b))
    # as they are scored: a method that reads a bank of training patients finds each of the 32 there, too
    assert min(h["tune"]["task"] for h in history) < constant / 4
