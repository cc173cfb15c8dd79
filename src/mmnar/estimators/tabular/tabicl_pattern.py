"""TabICL, a transformer that was trained elsewhere to answer from a table of examples.

Training patients are shown to it beside those it scores, and no weight is fitted. Weights are a file of the user's;
nothing is ever downloaded.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mmnar.dataset.store import Fold
from mmnar.dataset.table import TableView, column_features
from mmnar.errors import ConfigError, StoreError, TrainingError
from mmnar.estimators.base import Estimator, save_arrays
from mmnar.estimators.tabular.folds import Bool, Float, Keys, TaskByTask, asked_of, load_view, seen_subjects
from mmnar.estimators.tabular.trees import TreeDesign
from mmnar.extras import lacking
from mmnar.files import sha256_of
from mmnar.roles import Train, Tune, subject_keys
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor

CHECKPOINT: Final = "tabicl-classifier-v2-20260212.ckpt"
"""The weights of Qu et al. (2026) for classification, as their authors call the file."""

ROWS: Final = 2048
"""Patients scored at once: the library holds every column of them, and of the context, as vectors."""


@dataclass(frozen=True)
class Weights:
    """A file of weights, and what was in it when the model was fitted."""

    file: Path
    sha256: str

    @classmethod
    def of(cls, setting: str) -> Weights:
        """
        Raises:
            ConfigError: There is no such file.
        """
        file = Path(setting).expanduser().absolute()
        if not setting or not file.is_file():
            raise ConfigError(
                "model.weights",
                "a local file of TabICL's weights; nothing is downloaded",
                f"no file '{file.name}'" if setting else "none",
                f"fetch {CHECKPOINT} of jingang/TabICL from the Hugging Face hub and give its path",
            )
        return cls(file, _sha256(file, *_stamp(file)))

    def check(self) -> None:
        """
        Raises:
            StoreError: The file has gone or is another.
        """
        there = self.file.is_file()
        if there and _sha256(self.file, *_stamp(self.file)) == self.sha256:
            return
        raise StoreError(
            f"weights '{self.file.name}' of 'tabicl-pattern'",
            f"the file it was fitted with, sha256 {self.sha256[:12]}…",
            f"another in '{self.file.parent}'" if there else f"none in '{self.file.parent}'",
            "put it back, or train again",
        )


@dataclass(frozen=True)
class ContextDesign:
    """How a fold becomes TabICL's columns.

    Args:
        view: What each modality's columns are.
        columns: (D,) which of contents and presence indicators are shown, in order.
    """

    view: TableView
    columns: NDArray[np.int64]

    def of(self, fold: Fold[Any]) -> Float:
        """(n, D); a number that is not known is NaN, a category that is not known -1."""
        return _all_columns(self.view, fold)[:, self.columns]


@dataclass(frozen=True)
class Context:
    """The training patients that are shown.

    Args:
        x: (n, D) their columns.
        shown: (K, n) for which task.
        y: (K, n) their labels; False where not shown.
    """

    x: Float
    shown: Bool
    y: Bool


class FittedTabICL(TaskByTask):
    """TabICL beside training patients, task by task. It reads its weights anew for every task that it scores.

    Args:
        members: Views of the table (orders of columns and classes, scales) over which logits are averaged.
        seed: Of these views.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        fitted_subjects: Keys,
        design: ContextDesign,
        context: Context,
        weights: Weights,
        members: int,
        seed: int,
    ) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.design, self.context = design, context
        self.weights, self.members, self.seed = weights, members, seed

    @property
    def keeps_patients(self) -> bool:
        return True

    def task_risks(self, fold: Fold[Any]) -> Float:
        """
        Raises:
            RequirementError: The extra ``tabicl`` is not installed.
            StoreError: The file of weights has gone or is another.
        """
        self.weights.check()
        tasks = range(len(self.schema.tasks))
        if not len(fold):
            return np.empty((0, len(tasks)))
        x = self.design.of(fold)
        return np.column_stack([self._risk(k, x) for k in tasks])

    def _risk(self, k: int, x: Float) -> Float:
        model = _tabicl().TabICLClassifier(
            n_estimators=self.members,
            model_path=self.weights.file,
            allow_auto_download=False,
            use_amp=False,  # half precision would make a risk depend on who is scored beside
            use_fa3=False,
            random_state=self.seed,
        )
        shown = self.context.shown[k]
        model.fit(self.context.x[shown], self.context.y[k, shown].astype(np.int64))
        parts = [model.predict_proba(x[start : start + ROWS])[:, 1] for start in range(0, len(x), ROWS)]
        return np.concatenate(parts).astype(np.float64)

    def _state(self, folder: Path) -> dict[str, Any]:
        save_arrays(folder / "tabicl-pattern.npz", {"columns": self.design.columns, **vars(self.context)})
        save_arrays(folder / "view.npz", self.design.view.arrays())
        weights = {"file": str(self.weights.file), "sha256": self.weights.sha256}
        return {"name": self.name, "weights": weights, "members": self.members, "seed": self.seed}

    @classmethod
    def load_state(cls, folder: Path, schema: Schema, fitted_subjects: Keys, state: dict[str, Any]) -> FittedTabICL:
        """
        Raises:
            StoreError: The file of weights has gone or is another.
        """
        weights = Weights(Path(state["weights"]["file"]), state["weights"]["sha256"])
        weights.check()
        with np.load(folder / "tabicl-pattern.npz", allow_pickle=False) as a:
            design, context = (
                ContextDesign(load_view(folder, schema), a["columns"]),
                Context(a["x"], a["shown"], a["y"]),
            )
        return cls(state["name"], schema, fitted_subjects, design, context, weights, state["members"], state["seed"])


@dataclass(frozen=True)
class TabICLPattern(Estimator):
    """TabICL on contents (missing values as they are) and presence indicators, by weights of the user's own.

    Args:
        weights: The file of weights, which must be there: nothing is downloaded.
        members: Views of the table over which it averages.
        most_patients: At most so many training patients are shown, drawn by hashes of their identifiers and the seed.
        most_columns: At most so many columns are shown, those known of the most of them.
    """

    name: ClassVar[str] = "tabicl-pattern"
    card: ClassVar[dict[str, Any]] = {
        "title": "TabICL with pattern columns",
        "paper": "Control: Qu et al. (2025, 2026), TabICL, by the authors' library and weights (BSD-3)",
        "missing": "missing values as they are, and an indicator per modality; series as window summaries",
        "deviations": (
            "TabICL itself takes the mean of those shown for a number that is not known; that a category is not known "
            "is one more category.",
            "Shows at most 10,000 patients and 100 columns, within what its weights were trained on (300 to 48,000 "
            "rows, 2 to 100 columns); says so where it leaves out.",
            "The tune fold is not used: nothing is chosen.",
            "The library adds its views in an order that may differ between two starts of Python, and with it a risk's "
            "last bits.",
            "A moved run looks for its weights where they lay when it was trained.",
            "No TabPFN: its newest weights are gated and partly non-commercial, and its library downloads what is not "
            "there.",
        ),
        "control": True,
        "extra": "tabicl",
        "keeps_patients": True,
    }

    weights: str = ""
    members: int = 8
    most_patients: int = 10_000
    most_columns: int = 100

    def __post_init__(self) -> None:
        if min(self.members, self.most_patients - 1, self.most_columns) < 1:
            raise ConfigError("tabicl-pattern", "a view, two patients, a column", "less", "use the defaults")

    def settings(self) -> Any:
        weights = Weights.of(self.weights)
        return replace(self, weights=f"{weights.file.name} sha256:{weights.sha256}")

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> FittedTabICL:
        """
        Raises:
            ConfigError: No file of weights, or of another model.
            RequirementError: The extra ``tabicl`` is not installed.
            TrainingError: Those shown do not show a task both ways.
        """
        weights = Weights.of(self.weights)
        _tabicl()
        _check_checkpoint(weights.file)
        shown = self._shown(train, seed)
        rows = np.flatnonzero(shown.any(axis=0))
        view = TableView.fit(train)
        x = _all_columns(view, replace(train, rows=train.rows[rows]))
        design = ContextDesign(view, self._columns(x))
        shown = shown[:, rows]
        context = Context(x[:, design.columns], shown, train.labels[rows].T & shown)
        seen = seen_subjects(train, tune)
        return FittedTabICL(self.name, train.schema, seen, design, context, weights, self.members, seed)

    def _shown(self, train: Fold[Train], seed: int) -> Bool:
        """(K, n) whom each task shows: all who were asked, or a draw of them that no other patient's coming moves."""
        keys = subject_keys(train.subject_digest().view(np.int64), seed)
        shown = np.stack([self._drawn(keys, asked_of(train, k)[0]) for k in range(len(train.schema.tasks))])
        for task, drawn, y in zip(train.schema.task_names, shown, train.labels.T, strict=True):
            if y[drawn].all() or not y[drawn].any():
                raise TrainingError(
                    f"task '{task}' of 'tabicl-pattern'",
                    f"both outcomes among {self.most_patients} patients drawn",
                    "one of them",
                    "raise model.most_patients",
                )
        if len(np.unique(keys)) > self.most_patients:
            _say(f"each task shows at most {self.most_patients} training patients (model.most_patients)")
        return shown

    def _drawn(self, keys: Keys, asked: Bool) -> Bool:
        """(n,) the samples of the patients with the smallest keys among those asked."""
        own = np.unique(keys[asked])
        return np.asarray(asked & (keys <= own[: self.most_patients][-1]))

    def _columns(self, x: Float) -> NDArray[np.int64]:
        """(D,) the columns with two values at least: all, or those of the most values, the first where as many."""
        known = np.logical_not(np.isnan(x))
        low, high = np.where(known, x, np.inf).min(axis=0), np.where(known, x, -np.inf).max(axis=0)
        varies = np.flatnonzero(low < high)
        if not len(varies):
            return np.zeros(1, dtype=np.int64)  # the library takes no empty table
        order = varies[np.argsort(-known[:, varies].sum(axis=0), kind="stable")]
        if len(order) > self.most_columns:
            _say(f"shows {self.most_columns} of {len(order)} columns (model.most_columns)")
        return np.sort(order[: self.most_columns])


def _all_columns(view: TableView, fold: Fold[Any]) -> Float:
    """(n, ΣC + M) contents and presence; NaN, and -1 of a category, where not known: the library's own code for it."""
    x = next(TreeDesign(view).versions(fold))
    categories = np.flatnonzero([bool(feature.categories) for _, feature in column_features(view)])
    x[:, categories] = np.where(np.isnan(x[:, categories]), -1.0, x[:, categories])
    return x


def _say(what: str) -> None:
    warnings.warn(f"tabicl-pattern: {what}", stacklevel=4)


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=64)
def _sha256(file: Path, size: int, changed: int) -> str:
    """Read once while neither size nor time of change are others."""
    return sha256_of(file)


def _check_checkpoint(file: Path) -> None:
    """
    Raises:
        ConfigError: The file holds no classifier of TabICL.
    """
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
        found = "no classifier" if held["config"].get("max_classes", 10) < 2 or not held["state_dict"] else ""
    except Exception as error:  # torch raises many kinds on a file that is something else
        found = type(error).__name__
    if found:
        expected = "a classifier's weights as TabICL's authors publish them"
        raise ConfigError(f"weights '{file.name}'", expected, found, f"use {CHECKPOINT}")


def _tabicl() -> ModuleType:
    """
    Raises:
        RequirementError: The extra ``tabicl`` is not installed.
    """
    try:
        return import_module("tabicl")
    except ImportError:
        raise lacking("model 'tabicl-pattern'", "tabicl", "tabicl") from None
