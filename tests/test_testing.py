"""Methods with one fault each: ``mmnar.testing`` finds it and names the promise. What keeps all of them is in
tests/conformance."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import mmnar
from mmnar.dataset.store import Fold
from mmnar.encoders.modality import encode, encoders_of
from mmnar.encoders.settings import IMAGE, SERIES, ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.estimators.base import Estimator
from mmnar.estimators.tabular.pattern_only import FittedPatternOnly, PatternOnly
from mmnar.models.base import Forward, Model, ModelCard, Objective
from mmnar.ops.heads import TaskHead
from mmnar.ops.masked import masked_mean
from mmnar.schema import Schema
from mmnar.testing import check_estimator, check_model, estimator_checks, model_checks
from mmnar.testing import estimators as recipes
from mmnar.testing import models as networks
from mmnar.types import Output, PatientBatch


@dataclass(frozen=True)
class Settings:
    width: int = 128
    dropout: float = 0.2
    append_pattern: bool = False
    image: ImageConfig = IMAGE
    series: SeriesConfig = SERIES


class Sound(Model):
    """The mean of what is present."""

    card = ModelCard("mean", "ours", "left out")
    Config = Settings

    def __init__(self, schema: Schema, config: Settings) -> None:
        super().__init__(schema, config)
        self.encoders = self.encoding(schema, config)
        self.head = TaskHead(schema, config.width, config.append_pattern)

    def encoding(self, schema: Schema, config: Settings) -> nn.ModuleList:
        return encoders_of(schema, config.width, config.dropout, config.image, config.series)

    def forward(self, batch: PatientBatch) -> Output:
        h = masked_mean(encode(self.encoders, batch, self.config.width), batch.present)
        h = self.seen(h, batch)
        return Output(self.told(self.head(h, batch.present), batch), h)

    def seen(self, h: Tensor, batch: PatientBatch) -> Tensor:
        return h

    def told(self, logits: Tensor, batch: PatientBatch) -> Tensor:
        return logits


class Nameless(Sound):
    card = None  # type: ignore[assignment]


class Endless(Sound):
    def told(self, logits: Tensor, batch: PatientBatch) -> Tensor:
        return logits / 0


class Peeping(Sound):
    def told(self, logits: Tensor, batch: PatientBatch) -> Tensor:
        return logits + batch.modalities["labs"].values.sum(1, keepdim=True)


class PlainMean(Sound):
    """0/0 of who has nothing."""

    def seen(self, h: Tensor, batch: PatientBatch) -> Tensor:
        return h * batch.present.sum(1, keepdim=True) / batch.present.sum(1, keepdim=True)


class NeedsOne(Sound):
    """The mean over those who have labs, where nobody has."""

    def objectives(self, batch: PatientBatch, forward: Forward) -> Iterator[Objective]:
        out = forward(batch)
        total = self.task_loss(out.logits, batch) + out.representation[batch.present[:, 1]].square().mean()
        yield Objective(total, {"task": total.detach()})


class Neighbourly(Sound):
    def told(self, logits: Tensor, batch: PatientBatch) -> Tensor:
        return logits - logits.mean(0)


class Told(Sound):
    def told(self, logits: Tensor, batch: PatientBatch) -> Tensor:
        return logits + batch.labels


class Deaf(Sound):
    """To what is asked of its encoders and head."""

    def __init__(self, schema: Schema, config: Settings) -> None:
        super().__init__(schema, replace(config, append_pattern=False))

    def encoding(self, schema: Schema, config: Settings) -> nn.ModuleList:
        return encoders_of(schema, config.width, config.dropout)


class Thawed(Sound):
    def encoding(self, schema: Schema, config: Settings) -> nn.ModuleList:
        return encoders_of(schema, config.width, config.dropout, replace(config.image, frozen=False), config.series)


class Unmasked(Sound):
    def objectives(self, batch: PatientBatch, forward: Forward) -> Iterator[Objective]:
        total = nn.functional.binary_cross_entropy_with_logits(forward(batch).logits, batch.labels)
        yield Objective(total, {"task": total.detach()})


class Idle(Sound):
    def __init__(self, schema: Schema, config: Settings) -> None:
        super().__init__(schema, config)
        self.idle = nn.Parameter(torch.zeros(3))


class Held(Sound):
    def __init__(self, schema: Schema, config: Settings) -> None:
        super().__init__(schema, config)
        self.scale = nn.Parameter(torch.ones(1))

    def told(self, logits: Tensor, batch: PatientBatch) -> Tensor:
        return logits * self.scale

    def after_step(self, rate: float) -> None:
        self.scale.fill_(1.0)


class Dice(Sound):
    def seen(self, h: Tensor, batch: PatientBatch) -> Tensor:
        return h + int.from_bytes(os.urandom(2)) / 2**16 if self.training else h


class Blind(Sound):
    def seen(self, h: Tensor, batch: PatientBatch) -> Tensor:
        return h * 0


FAULTS: dict[str, type[Model]] = {
    "says_what_it_is": Nameless,
    "finite_logits_and_representation": Endless,
    "content_behind_an_absent_modality_moves_nothing": Peeping,
    "every_pattern_gives_a_risk": PlainMean,
    "trains_where_a_modality_is_missing_for_everybody": NeedsOne,
    "same_risk_alone_shuffled_or_in_company": Neighbourly,
    "labels_of_the_patients_scored_move_nothing": Told,
    "the_pattern_can_be_appended": Deaf,
    "images_are_encoded_as_asked_and_once": Deaf,
    "series_are_encoded_as_asked": Deaf,
    "a_frozen_backbone_gets_no_gradient": Thawed,
    "masked_labels_give_no_gradient": Unmasked,
    "every_parameter_trains_and_names_match": Idle,
    "every_parameter_moves_in_training": Held,
    "same_seed_same_bits": Dice,
    "overfits_32_patients": Blind,
}


@pytest.mark.parametrize("promise", networks.PROMISES)
def test_a_fault_of_a_model_is_found_and_named(promise: str) -> None:
    (check,) = (c for c in model_checks(FAULTS[promise], width=8) if c.name == promise)
    with pytest.raises(AssertionError, match=rf"^{FAULTS[promise].__name__}: {promise}: ."):
        check()


class Rates(FittedPatternOnly):
    """Sound, of another package."""


class Beyond(Rates):
    def predict_proba(self, fold: Fold[Any]) -> NDArray[np.float64]:
        return super().predict_proba(fold) + 1


class Forgetful(Rates):
    def _state(self, folder: Path) -> dict[str, Any]:
        state = super()._state(folder)
        np.savez(folder / "pattern-only.npz", patterns=self.patterns, rates=self.rates / 2, prevalence=self.prevalence)
        return state


class Company(Rates):
    def predict_proba(self, fold: Fold[Any]) -> NDArray[np.float64]:
        p = super().predict_proba(fold)
        return p / (1 + p.mean(0))


class Undemanding(Rates):
    def check_schema(self, schema: Schema) -> None:
        pass


class Loose(Rates):
    """As if nothing of a panel were exclusive."""

    def predict_proba(self, fold: Fold[Any]) -> NDArray[np.float64]:
        return super().predict_proba(fold) * 0.9


class Recipe(Estimator):
    """Pattern-only, with another predictor."""

    name = "rates"
    card = PatternOnly.card

    def __init__(self, kind: type[FittedPatternOnly] = Rates) -> None:
        self.kind = kind

    def fit(self, train: Fold[Any], tune: Fold[Any], **how: Any) -> FittedPatternOnly:
        f = PatternOnly().fit(train, tune, **how)
        return self.kind("rates", f.schema, self.subjects(train, tune), f.patterns, f.rates, f.prevalence)

    def subjects(self, train: Fold[Any], tune: Fold[Any]) -> NDArray[np.uint64]:
        return np.union1d(train.subjects(), tune.subjects())


class Nobody(Recipe):
    def subjects(self, train: Fold[Any], tune: Fold[Any]) -> NDArray[np.uint64]:
        return train.subjects()


class Cheat(Recipe):
    def fit(self, train: Fold[Any], tune: Fold[Any], **how: Any) -> FittedPatternOnly:
        return super().fit(replace(train, rows=np.arange(len(train.dataset))), tune, **how)

    def subjects(self, train: Fold[Any], tune: Fold[Any]) -> NDArray[np.uint64]:
        return train.subjects()


MISTAKES: dict[str, Estimator] = {
    "risks_are_risks_and_repeat_to_the_bit": Recipe(Beyond),
    "what_is_fitted_survives_saving": Recipe(Forgetful),
    "remembers_whom_it_was_fitted_on": Nobody(),
    "a_risk_does_not_depend_on_who_is_scored_beside": Recipe(Company),
    "tampering_with_the_test_fold_moves_no_fitted_state": Cheat(),
    "another_schema_is_refused": Recipe(Undemanding),
    "risks_of_an_exclusive_panel_sum_to_one": Recipe(Loose),
}


@pytest.mark.parametrize("promise", recipes.PROMISES)
def test_a_mistake_of_a_recipe_is_found_and_named(promise: str) -> None:
    (check,) = (c for c in estimator_checks(MISTAKES[promise]) if c.name == promise)
    with pytest.raises(AssertionError, match=f"^rates: {promise}: ."):
        check()


def test_a_sound_recipe_of_another_package_passes() -> None:
    check_estimator(Recipe())


def test_unknown_names_are_refused_before_anything_is_looked_at() -> None:
    with pytest.raises(ConfigError, match="a registered model"):
        check_model("no-such-model")
    with pytest.raises(ConfigError, match=r"did you mean 'model\.width'"):
        check_estimator("zero-fill", "model.widht=16")


def test_no_test_runner_is_needed() -> None:
    for path in Path(mmnar.__path__[0]).rglob("*.py"):
        assert not re.search(r"^\s*(import|from) _?pytest", path.read_text(encoding="utf-8"), re.M), path
