"""Predictions[Role]: all that evaluation and the rectifier see of a model."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import LeakageError, SchemaError, StoreError
from mmnar.files import write_whole
from mmnar.privacy import counted_of
from mmnar.roles import ROLES, Calibration, R, Test
from mmnar.schema import Panel, check_panels, exclusive_columns, panels_from, panels_of
from mmnar.shown import Shown, names, sized

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Predictions", "concat", "load"]

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]
Int = NDArray[np.int64]

FORMAT: Final = "mmnar.predictions/2"
OUT_OF_FOLD: Final = "out of fold"
"""``provenance["validation"]`` of risks that are judged without a test fold."""
ELSEWHERE: Final = "another store"
"""The same of risks of another store's patients."""
OUTSIDE: Final = "made elsewhere"
"""``provenance["origin"]`` of risks that no run of this package made: whom they were learned from is not known."""
_ROW_COLUMNS: Final = ("subject_id", "hadm_id", "stay_id", "prediction_time", "fold")
_PER_ROW: Final = (*_ROW_COLUMNS, "subject_digest", "proba", "labels", "label_mask", "present")
_ATTRIBUTE: Final = "attribute:"
_DIGEST: Final = "subject_digest"


@dataclass(frozen=True, repr=False)
class Predictions(Shown, Generic[R]):
    """Risks of N samples for K tasks, with everything needed to judge them. No number exists without one.

    Args:
        role: The fold's role type, e.g. ``Test``.
        tasks: K task names.
        modalities: M modality names.
        proba: (N, K) float64 in [0, 1].
        labels: (N, K) bool; meaningless where ``label_mask`` is false (stored false there).
        label_mask: (N, K) bool; true where the task was asked of this sample and its outcome is known.
        present: (N, M) bool; the observation pattern δ.
        subject_id, hadm_id, stay_id: (N,) int64.
        prediction_time: (N,) int64, microseconds since 1970.
        attributes: name -> (N,) str array of subgroup values ("" = unknown).
        fold: (N,) int64; which cross-validation fold the row was scored in (0 for a single split).
        subject_digest: (N,) keyed digests of the subjects (``roles.subject_digests``).
        key_mark: Which key they were made with.
        fitted_subjects: per fold, sorted digests of every subject that any fitted state behind these numbers has seen,
            with the mark of their key; empty where nothing was fitted.
        bayes: (N, K) exact Bayes risks where the source knows them (simulator); otherwise None.
        id_space: Where the subject identifiers are valid, e.g. ``"eicu"``.
        provenance: model name, data fingerprint, seed and so on; plain JSON.
        panels: Tasks that are read together (``schema.Panel``). In an exclusive one the risks of a row sum to 1.

    Raises:
        SchemaError: A shape, range or role does not fit.
    """

    role: type[R]
    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    proba: Float
    labels: Bool
    label_mask: Bool
    present: Bool
    subject_id: Int
    hadm_id: Int
    stay_id: Int
    prediction_time: Int
    attributes: dict[str, NDArray[np.str_]]
    fold: Int
    subject_digest: NDArray[np.uint64]
    key_mark: int
    fitted_subjects: tuple[NDArray[np.uint64], ...]
    bayes: Float | None = None
    id_space: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    panels: tuple[Panel, ...] = ()

    def __post_init__(self) -> None:
        n, k, m = len(self.subject_id), len(self.tasks), len(self.modalities)
        shapes = {
            "proba": (self.proba, (n, k)),
            "labels": (self.labels, (n, k)),
            "label_mask": (self.label_mask, (n, k)),
            "present": (self.present, (n, m)),
            "hadm_id": (self.hadm_id, (n,)),
            "stay_id": (self.stay_id, (n,)),
            "prediction_time": (self.prediction_time, (n,)),
            "fold": (self.fold, (n,)),
            "subject_digest": (self.subject_digest, (n,)),
        }
        for name, (array, shape) in shapes.items():
            if array.shape != shape:
                raise SchemaError(f"predictions.{name}", f"{shape}", f"{array.shape}", "score the fold again")
        if not (np.isfinite(self.proba).all() and (self.proba >= 0).all() and (self.proba <= 1).all()):
            bad = int((~((self.proba >= 0) & (self.proba <= 1))).sum())
            raise SchemaError(
                "predictions.proba", "numbers in [0, 1]", f"{bad} outside or NaN", "look for NaN in the weights"
            )
        check_panels(self.panels, self.tasks)
        for columns in exclusive_columns(self.panels, self.tasks):
            rows = self.label_mask[:, columns].any(axis=1)  # a task that a fit never learned is not asked
            if not np.allclose(self.proba[np.ix_(rows, np.array(columns))].sum(axis=1), 1, atol=1e-5):
                which = ", ".join(self.tasks[k] for k in columns)
                raise SchemaError(f"predictions of {which}", "risks that sum to 1", "others", "use a softmax")

    def __len__(self) -> int:
        return len(self.subject_id)

    def _facts(self) -> dict[str, str]:
        validation = str(self.provenance.get("validation", ""))
        return {
            "model": str(self.provenance.get("model", "unnamed")),
            "role": self.role.name + (f" ({validation})" if validation else ""),
            "size": sized(len(self), len(np.unique(self.subject_id))),
            "tasks": names(self.tasks),
            "modalities": names(self.modalities),
        }

    def task(self, name: str) -> tuple[Float, Bool, Bool]:
        """(proba, labels, asked) of one task: (N,), (N,), (N,)."""
        k = self.tasks.index(name)
        return self.proba[:, k], self.labels[:, k], self.label_mask[:, k]

    def pattern_ids(self) -> tuple[NDArray[np.int64], Bool]:
        """(N,) index of each row's pattern and the (G, M) distinct patterns, in a fixed order."""
        patterns, index = np.unique(self.present, axis=0, return_inverse=True)
        return index.reshape(-1).astype(np.int64), patterns

    def subjects(self) -> NDArray[np.uint64]:
        """Sorted digests of the subjects, with the mark of their key: comparable with ``fitted_subjects``."""
        return np.union1d(self.subject_digest, np.uint64(self.key_mark))

    def among(self, fitted: NDArray[np.uint64]) -> Bool:
        """(N,) whose subject is in a record of subjects.

        Raises:
            LeakageError: The record was made with another key: nobody can tell.
        """
        if len(fitted) and np.uint64(self.key_mark) not in fitted:
            raise LeakageError(
                f"{self.role.name} predictions of '{self.provenance.get('model', 'a model')}'",
                "digests of subjects under one key",
                "other keys, so that nobody can tell who was seen in fitting",
                "give both data sets one key (PatientDataset.keyed_like, or --store)",
            )
        return np.isin(self.subject_digest, fitted)

    def with_proba(self, proba: Float, **provenance: Any) -> Predictions[R]:
        """The same samples with other risks (a rectifier's, an ensemble's)."""
        return replace(self, proba=proba, provenance={**self.provenance, **provenance})

    def as_validation(self: Predictions[Calibration]) -> Predictions[Test]:
        """Out-of-fold risks in place of a test fold's, where there is none: internal validation by cross-fitting.

        Raises:
            LeakageError: Not out-of-fold risks: other predictions, or a subject was seen by what scored it.
        """
        if self.role is not Calibration:
            raise LeakageError(
                "internal validation",
                "calibration predictions",
                f"{self.role.name} predictions",
                "cross-fit and pass the out-of-fold risks",
            )
        self.refuse_overlap()
        provenance = {**self.provenance, "validation": OUT_OF_FOLD}
        return replace(self, role=Test, provenance=provenance)  # type: ignore[return-value, arg-type]

    def asking(self, tasks: Sequence[str]) -> Predictions[R]:
        """The same samples with some of the tasks alone, in the same order; panels keep what is left of them.

        Raises:
            SchemaError: A part of an exclusive panel.
        """
        if tuple(tasks) == self.tasks:
            return self
        at = [k for k, task in enumerate(self.tasks) if task in tasks]
        kept = tuple(self.tasks[k] for k in at)
        return replace(
            self,
            tasks=kept,
            panels=panels_of(self.panels, kept),
            bayes=None if self.bayes is None else self.bayes[:, at],
            **{name: getattr(self, name)[:, at] for name in ("proba", "labels", "label_mask")},
        )

    def also_fitted_on(self, subjects: NDArray[np.uint64]) -> Predictions[R]:
        """Record that the numbers now also depend on these subjects' labels."""
        merged = tuple(np.union1d(f, subjects) for f in self.fitted_subjects)
        return replace(self, fitted_subjects=merged)

    def without(self, subjects: NDArray[np.uint64]) -> Predictions[R]:
        """The samples of all other subjects.

        Raises:
            LeakageError: The record was made with another key.
        """
        return self.of_rows(~self.among(subjects))

    def of_rows(self, rows: Bool) -> Predictions[R]:
        """The samples at which (N,) ``rows`` is true."""
        return replace(
            self,
            attributes={name: values[rows] for name, values in self.attributes.items()},
            bayes=None if self.bayes is None else self.bayes[rows],
            **{name: getattr(self, name)[rows] for name in _PER_ROW},
        )

    def refuse_overlap(self) -> None:
        """Raise unless no scored subject was seen by what scored it.

        Raises:
            LeakageError: A subject is among those the fitted state was made from, or a fold has no such record, or one
                under another key.
        """
        unknown = np.setdiff1d(self.fold, np.arange(len(self.fitted_subjects)))
        if len(unknown):
            raise LeakageError(
                f"{self.role.name} predictions of '{self.provenance.get('model', 'a model')}'",
                "the fitted subjects of every fold",
                f"no record for folds {unknown.tolist()}",
                "score each fold with its own fitted model and join them with concat",
            )
        for f, fitted in enumerate(self.fitted_subjects):
            mine = self.fold == f
            scored = len(np.unique(self.subject_digest[mine]))
            shared = len(np.unique(self.subject_digest[mine & self.among(fitted)])) if mine.any() else 0
            if shared:
                raise LeakageError(
                    f"{self.role.name} predictions of '{self.provenance.get('model', 'a model')}'",
                    "subjects that nothing fitted has seen",
                    f"{counted_of(shared, scored)} subjects seen during fitting",
                    "split by subject (Split.by_subject) and score only the test fold",
                )

    def save(self, path: Path) -> None:
        """Write one parquet file, replaced in one step: a reader sees the old file or the new one, never half of it.

        Columns: identifiers, the subject's digest, ``fold``, ``pattern`` (e.g. "1011", in the order of ``modalities``),
        ``<task>.proba``, ``<task>.label`` (null where not asked), ``<task>.bayes`` where known, ``attribute:<name>``.
        Everything that is not per row is in the file's metadata under "mmnar".
        """
        from mmnar import parquet

        path = Path(path)
        head = {
            "format": FORMAT,
            "role": self.role.name,
            "tasks": self.tasks,
            "modalities": self.modalities,
            "attributes": list(self.attributes),
            "bayes": self.bayes is not None,
            "id_space": self.id_space,
            "key_mark": int(self.key_mark),
            "provenance": self.provenance,
            "panels": [asdict(panel) for panel in self.panels],
            "fitted_subjects": [base64.b64encode(f.astype("<u8").tobytes()).decode() for f in self.fitted_subjects],
        }
        metadata = {"mmnar": json.dumps(head, ensure_ascii=False)}
        write_whole(path, lambda partial: parquet.save(self.to_frame(), partial, metadata))

    def to_frame(self) -> pl.DataFrame:
        """One row per sample, with the columns that ``save`` describes."""
        import polars as pl

        columns: dict[str, Any] = {name: getattr(self, name) for name in _ROW_COLUMNS}
        columns[_DIGEST] = self.subject_digest
        columns["pattern"] = pattern_words(self.present)
        for k, task in enumerate(self.tasks):
            columns[f"{task}.proba"] = self.proba[:, k]
            asked = pl.Series(self.label_mask[:, k])
            columns[f"{task}.label"] = pl.select(pl.when(asked).then(pl.Series(self.labels[:, k]))).to_series()
            if self.bayes is not None:
                columns[f"{task}.bayes"] = self.bayes[:, k]
        for name, values in self.attributes.items():
            columns[_ATTRIBUTE + name] = pl.Series(values.tolist(), dtype=pl.String)
        return pl.DataFrame(columns, schema_overrides={"pattern": pl.String})


def load(path: Path) -> Predictions[Any]:
    """Exactly what ``Predictions.save`` wrote.

    Raises:
        StoreError: No such file, or not predictions.
    """
    from mmnar import parquet

    path = Path(path)
    if not path.is_file():
        raise StoreError(f"predictions '{path.name}'", "a file", "none", "evaluate or predict first")
    try:
        head = json.loads(parquet.metadata_of(path)["mmnar"])
        frame = parquet.read(path)
    except (KeyError, ValueError, parquet.UnreadableError) as error:
        raise StoreError(
            f"predictions '{path.name}'", "predictions of this package", "another file", "check the path"
        ) from error
    if head["format"] != FORMAT:
        raise StoreError(f"predictions '{path.name}'", FORMAT, f"{head['format']}", "predict again with this version")
    tasks, n = tuple(head["tasks"]), len(frame)
    labels = [frame[f"{t}.label"] for t in tasks]
    bits = np.frombuffer("".join(frame["pattern"].to_list()).encode(), dtype=np.uint8) == ord("1")
    return Predictions(
        role=ROLES[head["role"]],
        tasks=tasks,
        modalities=tuple(head["modalities"]),
        proba=_columns([frame[f"{t}.proba"] for t in tasks], n, np.float64),
        labels=_columns([c.fill_null(False) for c in labels], n, np.bool_),
        label_mask=_columns([c.is_not_null() for c in labels], n, np.bool_),
        present=bits.reshape(n, len(head["modalities"])),
        attributes={a: np.array(frame[_ATTRIBUTE + a].to_list(), dtype=np.str_) for a in head["attributes"]},
        fitted_subjects=tuple(
            np.frombuffer(base64.b64decode(f), dtype="<u8").astype(np.uint64) for f in head["fitted_subjects"]
        ),
        bayes=_columns([frame[f"{t}.bayes"] for t in tasks], n, np.float64) if head["bayes"] else None,
        id_space=head["id_space"],
        subject_digest=frame[_DIGEST].to_numpy().astype(np.uint64),
        key_mark=head["key_mark"],
        provenance=head["provenance"],
        panels=panels_from(head.get("panels", ())),
        **{name: frame[name].to_numpy().astype(np.int64) for name in _ROW_COLUMNS},
    )


def _columns(series: list[pl.Series], n: int, dtype: type[Any]) -> NDArray[Any]:
    return np.stack([c.to_numpy() for c in series], axis=1).astype(dtype) if series else np.empty((n, 0), dtype)


_NOBODY: Final = np.empty(0, dtype=np.uint64)


def pattern_words(present: Bool) -> list[str]:
    """Patterns (n, M) as files and tables write them.

    >>> pattern_words(np.array([[True, False, True]]))
    ['101']
    """
    return ["".join("01"[bit] for bit in row) for row in present.astype(int)]


def concat(parts: Sequence[Predictions[R]]) -> Predictions[R]:
    """Join the folds of a cross-validation into one set of predictions.

    Fold numbers are kept, each with the record of whom its model was fitted on. Parts that are a single split each (all
    in fold 0) are numbered by position. Provenance keeps what all parts agree on.

    Raises:
        SchemaError: Nothing to join, or parts of different roles, tasks, modalities or attributes, or two parts that
            claim the same fold.
        LeakageError: A subject is scored in two folds.
    """
    if not parts:
        raise SchemaError("concat", "at least one part", "none", "pass the predictions of every fold")
    first = parts[0]
    for part in parts[1:]:
        _refuse_other_shape(first, part)
    if len(parts) > 1 and all((p.fold == 0).all() for p in parts):
        parts = [
            replace(p, fold=np.full(len(p), k), fitted_subjects=(_NOBODY,) * k + p.fitted_subjects[:1])
            for k, p in enumerate(parts)
        ]
    fitted = _fitted_per_fold(parts)
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _PER_ROW}
    pairs = np.unique(np.stack([joined["subject_id"], joined["fold"]]), axis=1)
    twice = pairs.shape[1] - len(np.unique(pairs[0]))
    if twice:
        raise LeakageError("concat", "every subject in one fold", f"{twice} in several", "split by subject")
    return Predictions(
        role=first.role,
        tasks=first.tasks,
        modalities=first.modalities,
        attributes={a: np.concatenate([p.attributes[a] for p in parts]) for a in first.attributes},
        fitted_subjects=fitted,
        bayes=None if first.bayes is None else np.concatenate([p.bayes for p in parts if p.bayes is not None]),
        id_space=first.id_space,
        key_mark=first.key_mark,
        provenance={k: v for k, v in first.provenance.items() if all(p.provenance.get(k) == v for p in parts)},
        panels=first.panels,
        **joined,
    )


def commonly_asked(parts: Sequence[Predictions[R]]) -> list[Predictions[R]]:
    """The same predictions, where a task of a fold that one of them has nobody asked (its fit had not learned it) is
    asked of nobody in any. Those of other rows or tasks are left as they are."""
    first = parts[0]
    alike = [p for p in parts if p.tasks == first.tasks and np.array_equal(p.fold, first.fold)]
    if len(alike) < len(parts):
        return list(parts)
    mask = np.ones_like(first.label_mask)
    for fold in np.unique(first.fold):
        rows = first.fold == fold
        mask[rows] = np.logical_and.reduce([p.label_mask[rows].any(axis=0) for p in parts])
    return [replace(p, label_mask=p.label_mask & mask, labels=p.labels & mask) for p in parts]


def _refuse_other_shape(first: Predictions[R], other: Predictions[R]) -> None:
    for name in ("role", "tasks", "modalities", "id_space", "key_mark", "panels"):
        if getattr(other, name) != getattr(first, name):
            raise SchemaError("concat", f"{name} {getattr(first, name)}", f"{getattr(other, name)}", "join like parts")
    if set(other.attributes) != set(first.attributes) or (other.bayes is None) != (first.bayes is None):
        raise SchemaError("concat", "the same attributes and bayes in every part", "others", "join like parts")


def _fitted_per_fold(parts: Sequence[Predictions[R]]) -> tuple[NDArray[np.uint64], ...]:
    """The record of every fold, taken from the one part that scored it."""
    fitted: dict[int, NDArray[np.uint64]] = {}
    for part in parts:
        for k in np.unique(part.fold).tolist():
            if k in fitted:
                raise SchemaError("concat", "each fold in one part", f"fold {k} twice", "number the folds")
            if k >= len(part.fitted_subjects):
                raise LeakageError("concat", "fitted subjects per fold", f"no record for fold {k}", "predict again")
            fitted[k] = part.fitted_subjects[k]
    return tuple(fitted.get(k, _NOBODY) for k in range(max(fitted, default=-1) + 1))
