"""The stack: methods weighed by their out-of-fold risks (stacked generalisation, Wolpert 1992, with the non-negative
weights of Breiman 1996)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax

from mmnar.dataset.store import Fold
from mmnar.errors import ConfigError, SchemaError
from mmnar.estimators.base import Estimator, Predictor
from mmnar.estimators.storage import fit_or_load, load_predictor, save_predictor
from mmnar.predictions import Predictions
from mmnar.roles import Calibration, Train, Tune
from mmnar.schema import Columns, Schema, exclusive_columns
from mmnar.training.monitor import Monitor

Float = NDArray[np.float64]

CLIP: Final = 1e-6
"""Risks nearer to 0 or 1 weigh as this one does."""
LEAST_EVENTS: Final = 40
"""With fewer events, or fewer non-events, members weigh the same."""


def usual_members() -> tuple[str, ...]:
    """CRL-MMNAR and the two strongest plain controls; LightGBM where it is installed."""
    boosting = "lightgbm-pattern" if find_spec("lightgbm") else "boosting-pattern"
    return ("crl-mmnar", boosting, "logistic-pattern")


@dataclass(frozen=True)
class StackConfig:
    """What a stack is made of.

    Args:
        members: Names of methods, at least two, separated by commas.
        spread: How far weights may lie from equal ones before the labels must speak for it (standard deviation).
    """

    members: tuple[str, ...] = ()
    spread: float = 0.25

    def __post_init__(self) -> None:
        if not self.members:
            object.__setattr__(self, "members", usual_members())
        if len(self.members) < 2 or len(set(self.members)) < len(self.members) or "stack" in self.members:
            fact = ", ".join(self.members)
            raise ConfigError("model.members", "two or more different methods", fact, "see `mmnar models`")
        if not 0 < self.spread < np.inf:
            raise ConfigError("model.spread", "a number above 0", str(self.spread), "correct it")


@dataclass(frozen=True)
class Weights:
    """logit risk = intercept + Σ weight × member's logit risk; in an exclusive panel, whose tasks share their weights,
    log risk = the same of the members' log risks, less what makes them sum to 1.

    Args:
        intercept: (K,) by task.
        weight: (K, M) by task and member, ≥ 0.
        exclusive: ``Schema.exclusive``.
    """

    intercept: Float
    weight: Float
    exclusive: Columns = ()

    def risks(self, members: Float) -> Float:
        """(n, K) of the members' (M, n, K)."""
        risks = np.asarray(expit(self.intercept + np.einsum("km,mnk->nk", self.weight, _logits(members))))
        for columns in self.exclusive:
            logs = np.einsum("km,mnk->nk", self.weight[list(columns)], _logs(members[..., columns]))
            risks[:, columns] = softmax(self.intercept[list(columns)] + logs, axis=1)
        return risks

    def of(self, schema: Schema, tasks: Sequence[str]) -> Weights:
        """Those of some of a schema's tasks."""
        at = [schema.task_names.index(task) for task in tasks]
        return Weights(self.intercept[at], self.weight[at], schema.asking(tasks).exclusive)


def fit_weights(parts: Sequence[Predictions[Any]], spread: float = 0.25) -> Weights:
    """Weights and one intercept a task: least log loss + Σ (weight − 1/M)² / (2 spread²), weight ≥ 0.

    The slope is their sum, so it is drawn to 1 as the weights are to equality. A task of fewer than 40 events or
    non-events keeps equal weights. An exclusive panel is weighed as one: least cross-entropy, one weight a member.

    Args:
        parts: Each member's risks of the same samples, none of whom it was fitted on.

    Raises:
        SchemaError: They are of different samples.
    """
    asked, exclusive = _shared(parts), exclusive_columns(parts[0].panels, parts[0].tasks)
    members, y = np.stack([p.proba for p in parts]), parts[0].labels.astype(np.float64)
    x = _logits(members)
    fitted = [_fit_task(x[:, rows, k], y[rows, k], spread) for k, rows in enumerate(asked.T)]
    intercept, weight = np.array([a for a, _ in fitted]), np.stack([w for _, w in fitted])
    for columns in exclusive:
        rows, at = asked[:, columns].all(axis=1), list(columns)
        intercept[at], weight[at] = _fit_panel(_logs(members[:, rows][..., at]), y[rows][:, at], spread)
    return Weights(intercept, weight, exclusive)


def stacked_out_of_fold(parts: Sequence[Predictions[Calibration]], spread: float = 0.25) -> Predictions[Calibration]:
    """The stack's out-of-fold risks: each fold's by weights that the other folds alone have decided."""
    asked, first = _shared(parts), parts[0]
    risks = np.empty_like(first.proba)
    for fold in np.unique(first.fold):
        here = first.fold == fold
        elsewhere = [replace(p, label_mask=p.label_mask & ~here[:, None]) for p in parts]
        risks[here] = fit_weights(elsewhere, spread).risks(np.stack([p.proba[here] for p in parts]))
    seen = tuple(np.unique(np.concatenate(each)) for each in zip(*(p.fitted_subjects for p in parts), strict=True))
    mixed = replace(first, label_mask=asked, labels=first.labels & asked, fitted_subjects=seen)
    return mixed.with_proba(risks, model=Stack.name)


def _shared(parts: Sequence[Predictions[Any]]) -> NDArray[np.bool_]:
    """(n, K) what every member was asked.

    Raises:
        SchemaError: The predictions are of different samples.
    """
    first = parts[0]
    for part in parts[1:]:
        same = all(np.array_equal(getattr(part, n), getattr(first, n)) for n in ("stay_id", "prediction_time", "fold"))
        if not same or part.tasks != first.tasks:
            raise SchemaError("stack", "predictions of the same samples", "others", "cross-fit members on one fold")
    asked: NDArray[np.bool_] = np.logical_and.reduce([p.label_mask for p in parts])
    return asked


def _logits(risks: Float) -> Float:
    return np.asarray(logit(np.clip(risks, CLIP, 1 - CLIP)))


def _logs(risks: Float) -> Float:
    return np.asarray(np.log(np.clip(risks, CLIP, 1)))


def _fit_panel(x: Float, y: Float, spread: float) -> tuple[Float, Float]:
    """(C,) intercepts, whose mean is 0, and (M,) weights of an exclusive panel, of members' log risks (M, n, C) and
    labels (n, C)."""
    equal, classes = np.full(len(x), 1 / len(x)), y.shape[1]
    if len(y) - y.sum(axis=0).max(initial=0) < LEAST_EVENTS:
        return np.zeros(classes), equal

    def loss(theta: Float) -> tuple[float, Float]:
        eta, away = theta[:classes] + np.einsum("m,mnc->nc", theta[classes:], x), theta[classes:] - equal
        error = softmax(eta, axis=1) - y
        value = float(-(log_softmax(eta, axis=1) * y).sum() + (away**2).sum() / (2 * spread**2))
        return value, np.concatenate([error.sum(axis=0), np.einsum("mnc,nc->m", x, error) + away / spread**2])

    start = np.concatenate([np.zeros(classes), equal])
    bounds = [(None, None)] * classes + [(0.0, None)] * len(x)
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}).x
    return best[:classes] - best[:classes].mean(), best[classes:]


def _fit_task(x: Float, y: Float, spread: float) -> tuple[float, Float]:
    """Intercept and (M,) weights of one task, of members' logits (M, n) and labels (n,)."""
    equal = np.full(len(x), 1 / len(x))
    if min(y.sum(), len(y) - y.sum()) < LEAST_EVENTS:
        return 0.0, equal

    def loss(theta: Float) -> tuple[float, Float]:
        eta, away = theta[0] + theta[1:] @ x, theta[1:] - equal
        error = expit(eta) - y
        value = float((np.logaddexp(0, eta) - y * eta).sum() + (away**2).sum() / (2 * spread**2))
        return value, np.concatenate([[error.sum()], x @ error + away / spread**2])

    start = np.concatenate([[0.0], equal])
    bounds = [(None, None)] + [(0.0, None)] * len(x)
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}).x
    return float(best[0]), np.asarray(best[1:])


class Stack(Estimator):
    """Several recipes and how far apart their weights may lie.

    ``cross_fit`` weighs members by their out-of-fold risks, a single ``fit`` by their risks of the tune fold.

    Args:
        members: name → recipe, at least two.
        spread: See ``StackConfig``.
    """

    name: ClassVar[str] = "stack"
    card: ClassVar[dict[str, Any]] = {
        "title": "Stack of methods weighed by their out-of-fold risks",
        "paper": "Stacked generalisation (Wolpert 1992) with non-negative weights (Breiman 1996)",
        "missing": "as each member does",
        "deviations": (
            "Weights are drawn to equality, and so their sum to 1, by a normal prior; log loss in place of squares.",
            "A run says the weights of every task; fewer than 40 events or non-events leave them equal.",
        ),
        "control": False,
    }

    def __init__(self, members: Mapping[str, Estimator], spread: float = 0.25) -> None:
        self.members, self.spread = dict(members), spread

    def starts_from(self) -> NDArray[np.uint64]:
        return np.unique(np.concatenate([member.starts_from() for member in self.members.values()]))

    def refuses(self, schema: Schema) -> str | None:
        for name, member in self.members.items():
            if refusal := member.refuses(schema):
                return f"member '{name}' {refusal}"
        return None

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> StackPredictor:
        fitted = {
            name: fit_or_load(member, train, tune, seed, workdir / name if workdir else None, monitor)
            for name, member in self.members.items()
        }
        weights = fit_weights([member.predict(tune) for member in fitted.values()], self.spread)
        seen = np.unique(np.concatenate([member.fitted_subjects for member in fitted.values()]))
        return StackPredictor(self.name, train.schema, seen, fitted, weights)


class StackPredictor(Predictor):
    """Fitted members and their weights."""

    def __init__(
        self,
        name: str,
        schema: Schema,
        fitted_subjects: NDArray[np.uint64],
        members: Mapping[str, Predictor],
        weights: Weights,
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.members, self.weights = dict(members), weights

    @property
    def keeps_patients(self) -> bool:
        return any(member.keeps_patients for member in self.members.values())

    @property
    def blind(self) -> bool:
        return all(member.blind for member in self.members.values())

    def predict_proba(self, fold: Fold[Any]) -> NDArray[np.float64]:
        return self.predict_with_fits(fold)[0]

    def predict_with_fits(self, fold: Fold[Any]) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """The k-th fit is the stack of the members' k-th fits."""
        means, fits = zip(*(self._of_member(member, fold) for member in self.members.values()), strict=True)
        each = [self.weights.risks(np.stack(of)) for of in zip(*fits, strict=True)] if all(fits) else []
        return self.weights.risks(np.stack(means)), each

    def _of_member(self, member: Predictor, fold: Fold[Any]) -> tuple[Float, list[Float]]:
        """Of the stack's tasks alone; a member may know more."""
        at = [member.schema.task_names.index(task) for task in self.schema.task_names]
        mean, fits = member.predict_with_fits(fold)
        return mean[:, at], [fit[:, at] for fit in fits]

    def weighed(self) -> dict[str, dict[str, float]]:
        """task → member → weight, with the intercept."""
        return {
            task: {"intercept": float(a), **{name: float(w) for name, w in zip(self.members, row, strict=True)}}
            for task, a, row in zip(self.schema.task_names, self.weights.intercept, self.weights.weight, strict=True)
        }

    def _state(self, folder: Path) -> dict[str, Any]:
        for i, member in enumerate(self.members.values()):
            save_predictor(member, folder / f"member{i}")
        w = self.weights
        numbers = {"intercept": w.intercept.tolist(), "weight": w.weight.tolist()}
        return {"name": self.name, "members": list(self.members), **numbers}

    @classmethod
    def load_state(
        cls, folder: Path, schema: Schema, fitted_subjects: NDArray[np.uint64], state: dict[str, Any]
    ) -> StackPredictor:
        members = {name: load_predictor(folder / f"member{i}") for i, name in enumerate(state["members"])}
        weights = Weights(np.array(state["intercept"]), np.array(state["weight"]), schema.exclusive)
        return cls(state["name"], schema, fitted_subjects, members, weights)
