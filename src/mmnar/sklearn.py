"""Any method as a classifier of scikit-learn: for ``GridSearchCV``, ``cross_val_predict`` and whatever takes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from mmnar.cohort.split import Split
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.recipe import Recipe
from mmnar.errors import MmnarError
from mmnar.estimators.cross import cross_fit
from mmnar.estimators.registry import estimator
from mmnar.sources.table.spec import TableSpec
from mmnar.workflow.doors import table_frame
from mmnar.workflow.frames import as_polars, from_frame

__all__ = ["MMNARClassifier"]

ROW, OUTCOME = "row of X", "y"
"""Names of columns that X must not have."""
OURS = ("files", "outcomes", "sample", "exclude", "panels")
"""What a spec must leave to X and y."""


class MMNARClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # untyped
    """A binary classifier: a registered method, cross-fitted, on a frame by the door of ``mmnar prepare table``.

    Cells that are missing (NaN, null) are what the methods are for. What the door refuses of a table is refused here,
    as ValueError: a column that decides y without exception, dates, identifiers.

    Args:
        model: A name from ``mmnar models``.
        settings: Such as ``("model.width=64", "train.max_epochs=20")``.
        spec: What the columns mean, as in docs/own-tables.md, without files and outcomes: ``modalities``, and where
            needed ``subject`` (rows of one patient are never parted), ``prediction_time``, ``missing`` and so on.
            Columns of an array are called x0, x1, … None = one modality of all columns, each row a patient.
        fits: Number K of fits, each of other patients; their mean scores.
        tune: Share of a fit's patients who stop it early.
        random_state: Of the folds and of training.

    Attributes:
        classes_: The two classes; the second is the event.
        fitted_: ``CrossFitted``: the predictor, and each row's risk by the fit that never saw its patient.
        recipe_: How other frames are read as X was.
    """

    def __init__(
        self,
        model: str = "logistic-pattern",
        *,
        settings: Sequence[str] = (),
        spec: Mapping[str, Any] | None = None,
        fits: int = 5,
        tune: float = 0.15,
        random_state: Any = None,
    ) -> None:
        self.model, self.settings, self.spec = model, settings, spec
        self.fits, self.tune, self.random_state = fits, tune, random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: Any) -> MMNARClassifier:
        """
        Args:
            X: (n, F) array of numbers, or a frame of polars or pandas.
            y: (n,) of two classes.

        Raises:
            ValueError: X, y or the spec is refused, or too few rows to fit.
        """
        frame = self._frame(X, fitting=True)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        y = column_or_1d(check_array(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
        check_consistent_length(frame, y)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError("Classifier can't train when only one class is present.")
        frame = frame.with_columns(pl.Series(OUTCOME, (y == self.classes_[1]).astype(np.int64)))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        try:
            data = from_frame(frame, self._spec(frame))
            _check_rows(len(data), frame)
            development = data.fold(Split(test=0), "development")
            recipe = estimator(self.model, *self.settings)
            self.fitted_ = cross_fit(recipe, development, self.fits, tune=self.tune, seed=seed)
        except MmnarError as error:
            raise ValueError(str(error)) from error
        self.recipe_ = Recipe.from_dict(data.manifest["recipe"], "the classifier")
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(n, 2) probabilities of ``classes_``.

        Raises:
            ValueError: X cannot be read as it was when it was fitted.
        """
        check_is_fitted(self)
        frame = self._frame(X, fitting=False)
        try:
            records = table_frame(TableSpec.from_dict(self.recipe_.options["spec"]), frame, like=self.recipe_)
            extract = self.recipe_.follow(records.extract, Path())
            data = dataset_of(extract, records.cohort(extract, False))
            _check_rows(len(data), frame)
            risks = self.fitted_.predictor.predict(data.fold(Split.external(), "test")).proba[:, 0]
        except MmnarError as error:
            raise ValueError(str(error)) from error
        event = np.empty(len(data))
        event[data.stay_id] = risks  # stays are numbered as the rows of X are
        return np.column_stack([1 - event, event])

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) the more probable of ``classes_``."""
        proba = self.predict_proba(X)
        chosen: NDArray[Any] = self.classes_[(proba[:, 1] > 0.5).astype(np.int64)]
        return chosen

    def _frame(self, X: Any, fitting: bool) -> pl.DataFrame:
        """X as a frame, with the number of each row."""
        if hasattr(X, "columns"):
            validate_data(self, X, reset=fitting, skip_check_array=True)
            try:
                frame = as_polars(X)
            except MmnarError as error:
                raise ValueError(str(error)) from error
        else:
            values = validate_data(self, X, reset=fitting, dtype=np.float64, ensure_all_finite="allow-nan")
            frame = pl.DataFrame(values, schema=[f"x{i}" for i in range(values.shape[1])], orient="row")
        taken = [name for name in (ROW, OUTCOME) if name in frame.columns]
        if taken:
            raise ValueError(f"X has a column '{taken[0]}', which is none of its inputs; rename it")
        return frame.with_columns(pl.Series(ROW, range(frame.height)))

    def _spec(self, frame: pl.DataFrame) -> dict[str, Any]:
        own = dict(self.spec or {})
        wrong = [key for key in OURS if key in own]
        if wrong:
            raise ValueError(f"spec has '{wrong[0]}', which X and y say; leave it out")
        names = [name for name in frame.columns if name not in (ROW, OUTCOME)]
        columns = [{"column": n, "type": "number"} if frame[n].dtype.is_numeric() else n for n in names]
        usual = {"name": "X", "subject": ROW, "modalities": {"features": columns}}
        return {**usual, **own, "sample": ROW, "outcomes": {"event": OUTCOME}}


def _check_rows(n: int, frame: pl.DataFrame) -> None:
    if n != frame.height:
        raise ValueError("X has rows without a subject or a prediction time; leave them out or fill them in")
