"""What every deep method promises, checked on populations that are made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from mmnar.config import TrainConfig
from mmnar.encoders.image import ImageEncoder
from mmnar.encoders.series import LSTMEncoder, SeriesEncoder, TransformerEncoder
from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.encoders.stream import SeriesStream
from mmnar.models.base import Model, ModelCard
from mmnar.models.registry import model_class
from mmnar.ops.losses import mean_label_loss
from mmnar.schema import Schema
from mmnar.testing.batches import batch, mixed, only, poisoned
from mmnar.testing.checks import Check, must
from mmnar.testing.populations import MIXED
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch

WIDTH: Final = 32


def check_model(model: type[Model] | str, **settings: Any) -> None:
    """Refuse a model that breaks a promise of ``models.base.Model``. Takes seconds, needs no data and no pytest.

    Args:
        model: A class, a registered name, or ``"module:Class"``.
        settings: Of its ``Config``, where the defaults are too large for populations of sixty.

    Raises:
        AssertionError: The first promise that is broken, by name.
        ConfigError: No such model, or no such setting.
    """
    for check in model_checks(model, **settings):
        check()


def model_checks(model: type[Model] | str, **settings: Any) -> Iterator[Check]:
    """The same check by check, for ``pytest.mark.parametrize("check", model_checks(Mine), ids=str)``."""
    kind = model_class(model) if isinstance(model, str) else model
    method = Method(kind, settings)
    for name, promise in PROMISES.items():
        yield Check(name, model if isinstance(model, str) else kind.__name__, partial(promise, method))


@dataclass(frozen=True)
class Method:
    """A model class, and the settings that it is checked at."""

    kind: type[Model]
    settings: Mapping[str, Any]

    def has(self, setting: str) -> bool:
        """Whether its configuration knows a setting."""
        return hasattr(self.kind.Config(), setting)

    def built(self, schema: Schema = MIXED, **changes: Any) -> Model:
        """As constructed, in training mode."""
        torch.manual_seed(0)
        return self.kind(schema, self.kind.Config(**{"width": WIDTH, **self.settings, **changes}))

    def seen(self, data: PatientBatch, **changes: Any) -> Model:
        """As constructed and with everything it takes from the training fold, ready to predict."""
        model = self.built(data.schema, **changes).eval()
        model.prepare(data)
        with torch.no_grad():
            for phase in model.phases():
                model.loss_weights = phase.weights
                model.begin_phase(phase, data)
                model.after_epoch(data)
        return model

    def quick(self) -> dict[str, Any]:
        """The smallest image network, where the method has one."""
        return {"image": ImageConfig("tiny")} if self.has("image") else {}

    def small(self, n: int = 60) -> PatientBatch:
        """Static modalities, and others where the method needs them, of patients who have those."""
        b = batch(n)
        if self.kind.card.refuses(b.schema) is None:
            return b
        b = mixed(4 * n)
        needed = tuple(spec.name for spec in b.schema.modalities if spec.kind in self.kind.card.needs)
        b = only(b, ("vitals", "labs", *needed))
        return b.take(b.present[:, 2:].all(1).nonzero().squeeze(1)[:n])


def _says_what_it_is(method: Method) -> None:
    must(isinstance(getattr(method.kind, "card", None), ModelCard), "no ModelCard as `card`")
    must(hasattr(method.kind, "Config"), "no class of settings as `Config`")
    lacking = [name for name in ("width", "dropout", "append_pattern") if not method.has(name)]
    must(not lacking, f"its Config has no {', '.join(lacking)}")


def _finite_logits_and_representation(method: Method) -> None:
    b = mixed()
    out = method.seen(b)(b)
    must(out.logits.shape == (len(b), 2), f"logits of shape {tuple(out.logits.shape)}, not one for each of 2 tasks")
    must(out.representation.shape[0] == len(b), "a representation for others than the patients of the batch")
    must(torch.isfinite(out.logits).all(), "logits that are not finite")
    must(torch.isfinite(out.representation).all(), "a representation that is not finite")


def _content_behind_an_absent_modality_moves_nothing(method: Method) -> None:
    b = mixed()
    bad, model = poisoned(b), method.seen(b)
    must(torch.equal(model(bad).logits, model(b).logits), "content behind an absent modality moves a logit")
    fitted, also = method.seen(bad).state_dict(), model.state_dict()
    must(all(torch.equal(fitted[key], also[key]) for key in also), "it moves what is taken from the training fold")


def _every_pattern_gives_a_risk(method: Method) -> None:
    """All 2^M of them beside each other; then everybody with the same, nothing at all included."""
    b = mixed(200)
    m = b.present.shape[1]
    model = method.seen(b)
    patterns = ((torch.arange(2**m)[:, None] >> torch.arange(m)) & 1).bool()
    rows = torch.arange(2**m) % len(b)
    must(torch.isfinite(model(b.take(rows).drop(patterns)).logits).all(), "patterns side by side: not finite")
    for pattern in (torch.zeros(m, dtype=torch.bool), *torch.eye(m, dtype=torch.bool)):
        logits = model(b.drop(pattern.expand_as(b.present))).logits
        must(torch.isfinite(logits).all(), f"everybody with {int(pattern.sum())} modalities: not finite")


def _trains_where_a_modality_is_missing_for_everybody(method: Method) -> None:
    b = mixed()
    m = b.present.shape[1]
    for pattern in (*(~torch.eye(m, dtype=torch.bool)).unbind(), torch.zeros(m, dtype=torch.bool)):
        part = b.drop(pattern.expand_as(b.present))
        model = method.seen(part).train()
        for phase in model.phases():
            model.loss_weights = phase.weights
            for objective in model.objectives(part, model):
                if objective.total.requires_grad:
                    objective.total.backward()  # type: ignore[no-untyped-call]
                must(torch.isfinite(objective.total), f"phase '{phase.name}': a loss that is not finite")
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        must(all(torch.isfinite(g).all() for g in gradients), "gradients that are not finite")


def _same_risk_alone_shuffled_or_in_company(method: Method) -> None:
    b = mixed()
    model = method.seen(b)
    together = model(b).logits
    order = torch.randperm(len(b))
    shuffled = model(b.take(order)).logits
    must(torch.allclose(shuffled, together[order], atol=1e-5), "the order of the batch moves a logit")
    alone = _alone(model, b, len(b))
    must(torch.allclose(alone, together, atol=1e-5), "who is scored beside a patient moves the patient's logit")


def _alone(model: Model, b: PatientBatch, n: int) -> Tensor:
    return torch.cat([model(b.take(torch.tensor([i]))).logits for i in range(n)])


def _labels_of_the_patients_scored_move_nothing(method: Method) -> None:
    b = mixed()
    model = method.seen(b)
    others = replace(b, labels=1 - b.labels, label_mask=~b.label_mask, checked=True)
    must(torch.equal(model(others).logits, model(b).logits), "the labels of who is scored move a logit")


def _the_pattern_can_be_appended(method: Method) -> None:
    b = mixed()
    sizes = [sum(p.numel() for p in method.seen(b, append_pattern=how).parameters()) for how in (False, True)]
    must(sizes[0] < sizes[1], "append_pattern adds no parameter")


def _images_are_encoded_as_asked_and_once(method: Method) -> None:
    b = mixed()
    if not method.has("image"):  # it sees untrained vectors of the content instead
        must(not _image_encoders(method.seen(b)), "it has an ImageEncoder, but no setting `image`")
        return
    model = method.seen(b, image=ImageConfig("tiny"))
    encoders = _image_encoders(model)
    must([e.config.backbone for e in encoders] == ["tiny"], "the image encoder is not the one asked for")
    encoded: list[int] = []
    # the first layer: methods that act on the maps between stages do not call the network as a whole
    encoders[0].resnet.conv1.register_forward_hook(lambda _, inputs, __: encoded.append(len(inputs[0])))
    for training in (False, True):
        model.train(training)(b)
        must(sum(encoded) == len(b.modalities["film"].values), "each image is not encoded exactly once")
        encoded.clear()


def _image_encoders(model: Model) -> list[ImageEncoder]:
    return [m for m in model.modules() if isinstance(m, ImageEncoder)]


def _series_are_encoded_as_asked(method: Method) -> None:
    b = mixed()
    if not method.has("series"):  # it is its substance
        known = [m for m in method.seen(b).modules() if isinstance(m, SeriesEncoder | SeriesStream)]
        must(not known, "it has a SeriesEncoder, but no setting `series`")
        return
    kinds: dict[Any, Any] = {"lstm": LSTMEncoder, "transformer": TransformerEncoder}
    for kind, encoder in kinds.items():
        model = method.seen(b, series=SeriesConfig(kind, hours=12.0), dropout=0.0)
        found: list[Any] = [m for m in model.modules() if isinstance(m, (encoder, SeriesStream))]
        must(len(found) == 1, f"one series: {len(found)} encoders of kind {kind}")
        must(found[0].steps.config.hours == 12, "the series encoder has other settings than those asked for")
        apart = torch.allclose(_alone(model, b, 6), model(b).logits[:6], atol=1e-4)
        must(apart, f"{kind}: who is scored beside a patient moves the patient's logit")
        _backward(model.train(), b)
        must(not _untrained(found[0]), f"{kind}: a parameter of the series encoder gets no gradient")


def _a_frozen_backbone_gets_no_gradient(method: Method) -> None:
    if not method.has("image"):
        return
    b = mixed()
    model = method.seen(b, image=ImageConfig("tiny", "a file", frozen=True)).train()
    _backward(model, b)
    (encoder,) = _image_encoders(model)
    moved = {n for n, p in encoder.backbone.named_parameters() if p.grad is not None}
    must(moved == {"fc.weight", "fc.bias"}, "the frozen backbone gets gradients, or its last layer none")


def _masked_labels_give_no_gradient(method: Method) -> None:
    b = mixed()
    gradients = []
    for flip in (False, True):
        labels = torch.where(b.label_mask, b.labels, float(flip))
        model = method.seen(b).train()
        torch.manual_seed(1)
        _backward(model, replace(b, labels=labels, checked=True))
        gradients.append([p.grad for p in model.parameters()])
    for a, c in zip(*gradients, strict=True):
        same = a is None and c is None if a is None or c is None else torch.equal(a, c)
        must(same, "a label that is masked moves a gradient")


def _backward(model: Model, b: PatientBatch) -> None:
    """Gradients of all phases, summed."""
    for phase in model.phases():
        model.loss_weights = phase.weights
        for objective in model.objectives(b, model):
            unknown = set(objective.terms) - set(model.loss_weights)
            must(not unknown, f"phase '{phase.name}' has no weight for {', '.join(sorted(unknown))}")
            if objective.total.requires_grad:
                objective.total.backward()  # type: ignore[no-untyped-call]


def _untrained(module: torch.nn.Module) -> list[str]:
    return [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def _every_parameter_trains_and_names_match(method: Method) -> None:
    b = mixed()
    model = method.seen(b).train()
    empty = b.take(torch.arange(len(b))).drop(torch.zeros_like(b.present))
    for part in (b, empty):  # a null vector trains only where nothing is present
        _backward(model, part)
    silent = _untrained(model)
    must(not silent, f"no gradient for {', '.join(silent)}")


def _every_parameter_moves_in_training(method: Method) -> None:
    """A gradient is not enough: what no optimizer holds, or a phase freezes for good, stays where it is."""
    b = mixed(40)
    b = b.drop((torch.arange(len(b)) > 2)[:, None].expand_as(b.present))  # somebody has nothing: the null vector
    model, started = method.built(), method.built().state_dict()
    settings = TrainConfig(min_steps=0, max_epochs=2, batch_size=40, weight_decay=0.0, patience=9, lr=1e-3)
    moved: set[str] = set()

    class Watch(Silent):
        def epoch(self, record: dict[str, object]) -> None:
            moved.update(n for n, p in model.named_parameters() if not torch.equal(p, started[n]))

    train(model, b, b, settings, 0, Watch())
    still = {n for n, _ in model.named_parameters()} - moved
    must(not still, f"training does not move {', '.join(sorted(still))}")


def _same_seed_same_bits(method: Method) -> None:
    b = method.small(120)
    states = []
    for _ in range(2):
        model = method.built(b.schema, **method.quick())
        train(model, b, b, TrainConfig(min_steps=0, max_epochs=2, batch_size=32), 3, Silent())
        states.append(model.state_dict())
    apart = [key for key, value in states[0].items() if not torch.equal(value, states[1][key])]
    must(not apart, f"one seed, two trainings: other bits in {', '.join(apart)}")


def _overfits_32_patients(method: Method) -> None:
    b = method.small().take(torch.arange(32))
    model = method.built(b.schema, dropout=0.0, **method.quick())
    config = TrainConfig(min_steps=0, max_epochs=150, batch_size=32, patience=150, lr=3e-3, weight_decay=0.0)
    history = train(model, b, b, config, 0, Silent())
    rate = (b.labels * b.label_mask).sum(0) / b.label_mask.sum(0)
    constant = float(mean_label_loss(rate.logit().expand_as(b.labels), b))
    # as they are scored: a method that reads a bank of training patients finds each of the 32 there, too
    least = min(h["tune"]["task"] for h in history)
    must(
        least < constant / 4,
        f"a loss of {least:.3f} on 32 patients learned by heart; the outcome rate's {constant:.3f}",
    )


PROMISES: Final[dict[str, Callable[[Method], None]]] = {
    promise.__name__.removeprefix("_"): promise
    for promise in (
        _says_what_it_is,
        _finite_logits_and_representation,
        _content_behind_an_absent_modality_moves_nothing,
        _every_pattern_gives_a_risk,
        _trains_where_a_modality_is_missing_for_everybody,
        _same_risk_alone_shuffled_or_in_company,
        _labels_of_the_patients_scored_move_nothing,
        _the_pattern_can_be_appended,
        _images_are_encoded_as_asked_and_once,
        _series_are_encoded_as_asked,
        _a_frozen_backbone_gets_no_gradient,
        _masked_labels_give_no_gradient,
        _every_parameter_trains_and_names_match,
        _every_parameter_moves_in_training,
        _same_seed_same_bits,
        _overfits_32_patients,
    )
}
"""Name → promise, in the order in which they are looked at."""
