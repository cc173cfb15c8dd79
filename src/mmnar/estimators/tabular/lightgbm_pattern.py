"""LightGBM on the columns of ``boosting-pattern``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final

import numpy as np

from mmnar.dataset.store import Fold
from mmnar.errors import ConfigError, StoreError
from mmnar.estimators.base import Estimator, save_arrays
from mmnar.estimators.tabular.folds import THREADS, Bool, Float, Keys, TaskByTask, asked_tasks, load_view, seen_subjects
from mmnar.estimators.tabular.trees import TreeDesign, boosting_record
from mmnar.extras import lacking
from mmnar.roles import Train, Tune
from mmnar.schema import Schema
from mmnar.training.monitor import Monitor, Silent

_OF_TRAINING: Final = {
    "feature_infos": "none",
    **dict.fromkeys(("leaf_count", "leaf_weight", "internal_count", "internal_weight", "internal_value"), "0"),
    "split_gain": "0",
}
"""Lines of LightGBM's text that no prediction reads, and what stands there in place of each value."""


class FittedLightGBM(TaskByTask):
    """Gradient-boosted trees, one ensemble per task.

    Args:
        design: Fitted columns.
        texts: K ensembles in LightGBM's own text format.

    Raises:
        RequirementError: The extra ``lightgbm`` is not installed.
        StoreError: A text is not an ensemble.
    """

    def __init__(self, name: str, schema: Schema, fitted_subjects: Keys, design: TreeDesign, texts: list[str]) -> None:
        super().__init__(name, schema, fitted_subjects)
        self.design, self.texts = design, texts
        self.boosters = [_booster(text) for text in texts]

    @property
    def blind(self) -> bool:
        return self.design.fillings is not None

    def task_risks(self, fold: Fold[Any]) -> Float:
        return self.design.mean_risk(fold, len(self.boosters), self._risks)

    def _risks(self, x: Float) -> Float:
        return np.column_stack([booster.predict(x, num_threads=THREADS) for booster in self.boosters])

    def _state(self, folder: Path) -> dict[str, Any]:
        save_arrays(folder / "lightgbm-pattern.npz", self.design.arrays())
        save_arrays(folder / "view.npz", self.design.view.arrays())
        for task, text in zip(self.schema.task_names, self.texts, strict=True):
            (folder / f"lightgbm-{task}.txt").write_text(text, encoding="utf-8")
        return {"name": self.name, "trees": [booster.num_trees() for booster in self.boosters]}

    @classmethod
    def load_state(cls, folder: Path, schema: Schema, fitted_subjects: Keys, state: dict[str, Any]) -> FittedLightGBM:
        with np.load(folder / "lightgbm-pattern.npz", allow_pickle=False) as a:
            design = TreeDesign(load_view(folder, schema), a.get("fillings"))
        texts = [(folder / f"lightgbm-{task}.txt").read_text(encoding="utf-8") for task in schema.task_names]
        return cls(state["name"], schema, fitted_subjects, design, texts)


@dataclass(frozen=True)
class LightGBMPattern(Estimator):
    """LightGBM on contents (missing values as they are) and presence indicators.

    Args:
        learning_rate: Shrinkage of each tree.
        leaves: Leaves per tree.
        max_trees: Upper bound on trees.
        patience: Trees without a lower log loss on the tune fold before it stops.
        min_patients: Training samples per leaf.
        columns_share: Share of the columns that each tree may use.
        columns_most: At most so many of them: many columns of a wide table say nearly the same.
        l2: Penalty on the leaves' values.
        append_pattern: False = blind to the pattern: no columns of it, and an absent modality is filled with training
            values (``TreeDesign``). A single missing value of a present modality stays missing.
    """

    name: ClassVar[str] = "lightgbm-pattern"
    card: ClassVar[dict[str, Any]] = {
        "title": "LightGBM with pattern columns",
        "paper": "Control: Ke et al. (2017), LightGBM",
        "missing": "missing values as they are, and an indicator per modality; series as window summaries",
        "deviations": (
            "Small trees, half of the columns each and at most 60, stopped on the tune fold's log loss; chosen on tune "
            "folds of five data sets (benchmarks/controls.py).",
            "Without the pattern it averages over training values in place of an absent modality: of a mean in its "
            "place a tree would learn the pattern.",
        ),
        "control": True,
    }

    learning_rate: float = 0.05
    leaves: int = 8
    max_trees: int = 1000
    patience: int = 60
    min_patients: int = 20
    columns_share: float = 0.5
    columns_most: int = 60
    l2: float = 1.0
    append_pattern: bool = True

    def __post_init__(self) -> None:
        positive = (
            self.learning_rate,
            self.leaves - 1,
            self.max_trees,
            self.patience,
            self.min_patients,
            self.columns_most,
        )
        if min(positive) <= 0 or not 0 < self.columns_share <= 1 or self.l2 < 0:
            raise ConfigError(
                "lightgbm-pattern", "positive settings, a share ≤ 1", "one that is not", "use the defaults"
            )

    def fit(
        self,
        train: Fold[Train],
        tune: Fold[Tune],
        *,
        seed: int = 0,
        workdir: Path | None = None,
        monitor: Monitor | None = None,
    ) -> FittedLightGBM:
        """
        Raises:
            RequirementError: The extra ``lightgbm`` is not installed.
        """
        monitor = monitor or Silent()
        design = TreeDesign.of(train, self.append_pattern, seed)
        categorical = np.flatnonzero(design.categorical()).tolist()
        x, x_tune = design.fitting(train, tune, seed)
        texts = []
        for task, asked in zip(train.schema.task_names, asked_tasks(train, tune), strict=True):
            monitor.start(f"{self.name} {task}", self.max_trees)
            cells = (x[asked.train], asked.y, x_tune[asked.tune], asked.y_tune)
            texts.append(self._grow(task, *cells, categorical, seed, monitor))
            monitor.stop()
        return FittedLightGBM(self.name, train.schema, seen_subjects(train, tune), design, texts)

    def _grow(
        self,
        task: str,
        x: Float,
        y: Bool,
        x_tune: Float,
        y_tune: Bool,
        categorical: list[int],
        seed: int,
        monitor: Monitor,
    ) -> str:
        """The ensemble at its lowest log loss on the tune fold, as text."""
        lightgbm = _lightgbm()
        settings = {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.min_patients,
            "feature_fraction": min(self.columns_share, self.columns_most / x.shape[1]),
            "lambda_l2": self.l2,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": THREADS,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(x, y.astype(np.float64), categorical_feature=categorical, params=settings)
        tuned = lightgbm.Dataset(x_tune, y_tune.astype(np.float64), reference=data, params=settings)
        begun = time.perf_counter()

        def watch(step: Any) -> None:
            nonlocal begun
            if (step.iteration + 1) % 20 and step.iteration + 1 < step.end_iteration:
                return
            now = time.perf_counter()
            loss = float(step.evaluation_result_list[0][2])
            fit, trees = f"{self.name} {task}", step.iteration + 1
            monitor.epoch(boosting_record(fit, trees, loss, now - begun, self.learning_rate))
            begun = now

        stop = lightgbm.early_stopping(self.patience, verbose=False)
        grown = lightgbm.train(settings, data, self.max_trees, valid_sets=[tuned], callbacks=[watch, stop])
        return _without_training(grown.model_to_string())  # up to the best iteration


def _without_training(text: str) -> str:
    """Only what it predicts by: no sums over a node's patients, no gains, and no range of a column, whose two ends are
    one patient's value each. The trees' lengths in bytes, no longer true, go too: it then reads them one by one.

    >>> _without_training("feature_infos=[36.1:41.2] none\\nleaf_count=21 4\\nleaf_value=-0.5 0.25")
    'feature_infos=none none\\nleaf_count=0 0\\nleaf_value=-0.5 0.25'
    """
    lines = []
    for line in text.split("\n"):
        key, equals, values = line.partition("=")
        if key == "tree_sizes":
            continue
        blank = _OF_TRAINING.get(key)
        lines.append(line if blank is None else f"{key}{equals}{' '.join([blank] * len(values.split()))}")
    return "\n".join(lines)


def _lightgbm() -> ModuleType:
    """
    Raises:
        RequirementError: The extra ``lightgbm`` is not installed.
    """
    try:
        import lightgbm
    except ImportError:
        raise lacking("model 'lightgbm-pattern'", "lightgbm", "lightgbm") from None
    return lightgbm


def _booster(text: str) -> Any:
    lightgbm = _lightgbm()
    try:
        return lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise StoreError("a LightGBM model", "its text format", str(error), "train it again") from error
