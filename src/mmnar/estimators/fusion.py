"""Any deep model as an Estimator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from mmnar.config import TrainConfig, override, to_plain
from mmnar.dataset.preprocess import Preprocessor
from mmnar.dataset.store import Fold
from mmnar.encoders.weights import identified, load_weights, seen_by
from mmnar.errors import RequirementError
from mmnar.estimators.base import Estimator, Predictor, save_arrays
from mmnar.estimators.started import refuse_other_key
from mmnar.models.base import Model
from mmnar.models.registry import model_class
from mmnar.ops.losses import probabilities
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training import loop
from mmnar.training.monitor import Monitor, Silent
from mmnar.types import Output

PREDICT_ROWS = 2048


class FusionEstimator(Estimator):
    """A deep model of the registry and how to train it.

    Args:
        name: Registry name.
        model: The model's configuration; None = its defaults.
        train: The loop's configuration.
    """

    def __init__(self, name: str, model: Any = None, train: TrainConfig | None = None) -> None:
        self._name = name
        self.model_type = model_class(name)
        self.model = model if model is not None else self.model_type.Config()
        self.train = train or TrainConfig()

    @property
    def name(self) -> str:
        return self._name

    @property
    def card(self) -> dict[str, Any]:
        return {**asdict(self.model_type.card), "keeps_patients": _keeps_patients(self.model_type, self.model)}

    def refuses(self, schema: Schema) -> str | None:
        return self.model_type.card.refuses(schema)

    def settings(self) -> Any:
        return identified(self.model)

    def starts_from(self) -> NDArray[np.uint64]:
        return seen_by(self.model)

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> FusionPredictor:
        refusal = self.refuses(train.schema)
        if refusal:
            raise RequirementError(f"model '{self.name}'", "data it can run on", refusal, "choose another model")
        before = self.starts_from()
        refuse_other_key(before, train.dataset.secret)
        preprocessor = Preprocessor.fit(train)
        torch.manual_seed(seed)
        network = self.model_type(train.schema, self.model)
        load_weights(network)
        network.config = identified(self.model)  # what is saved with it names no place
        checkpoint = workdir / "checkpoint.safetensors" if workdir else None
        history = loop.train(
            network,
            preprocessor.transform(train),
            preprocessor.transform(tune),
            self.train,
            seed,
            monitor or Silent(),
            checkpoint,
            self.name,
        )
        seen = np.union1d(np.union1d(train.subjects(), tune.subjects()), before)
        return FusionPredictor(self.name, train.schema, seen, network, preprocessor, history)


class FusionPredictor(Predictor):
    """A fitted deep model with the statistics of its training fold."""

    def __init__(
        self,
        name: str,
        schema: Schema,
        fitted_subjects: NDArray[np.uint64],
        network: Model,
        preprocessor: Preprocessor,
        history: list[dict[str, Any]],
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.network, self.preprocessor, self.history = network.eval(), preprocessor, history

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def keeps_patients(self) -> bool:
        return _keeps_patients(type(self.network), self.network.config)

    @property
    def blind(self) -> bool:
        return bool(getattr(self.network.config, "blind", False))

    @torch.inference_mode()
    def predict_proba(self, fold: Fold[Any]) -> NDArray[np.float64]:
        parts = [output.logits.double() for output in self._outputs(fold)]
        if not parts:
            return np.zeros((0, len(self.schema.tasks)))
        return probabilities(torch.cat(parts), self.schema.exclusive).numpy()

    @torch.inference_mode()
    def represent(self, fold: Fold[Any]) -> NDArray[np.float64]:
        return torch.cat([output.representation.double() for output in self._outputs(fold)]).numpy()

    def _outputs(self, fold: Fold[Any]) -> Iterator[Output]:
        """Part by part, so that memory does not grow with the fold."""
        return (self.network(self.preprocessor.transform(part)) for part in fold.parts(PREDICT_ROWS))

    def _state(self, folder: Path) -> dict[str, Any]:
        save_file(
            {k: v.contiguous().clone() for k, v in self.network.state_dict().items()}, folder / "model.safetensors"
        )
        save_arrays(folder / "preprocess.npz", self.preprocessor.arrays())
        return {"name": self.name, "model": to_plain(self.network.config), "history": self.history}

    @classmethod
    def load_state(
        cls, folder: Path, schema: Schema, fitted_subjects: NDArray[np.uint64], state: dict[str, Any]
    ) -> FusionPredictor:
        name = state["name"]
        model_type = model_class(name)
        network = model_type(schema, override(model_type.Config(), state["model"]))
        network.load_state_dict(load_file(folder / "model.safetensors"))
        with np.load(folder / "preprocess.npz", allow_pickle=False) as arrays:
            preprocessor = Preprocessor.from_arrays(schema, dict(arrays))
        return cls(name, schema, fitted_subjects, network, preprocessor, state["history"])


def _keeps_patients(model: type[Model], config: Any) -> bool:
    """Whether a model fitted with such settings holds vectors of training patients."""
    return model.card.keeps_patients or getattr(config, "keeps_patients", False)
