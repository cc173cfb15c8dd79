"""The store: a prepared dataset on disk, written whole or not at all, read as memory-mapped arrays.

Layout: ``STORE/manifest.json`` names the data folder beside it (``data-<fingerprint>``) and lists the hash of
every file in it. The manifest is replaced last and atomically: a kill at any moment leaves the old store or the
new one, never half of either.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final, Generic, Literal, overload

import numpy as np
from numpy.typing import NDArray

from mmnar.cohort.split import Split, check_role
from mmnar.dataset.content import Content, blanked, content_arrays, content_of, part_names, taken
from mmnar.dataset.disk import PER_SAMPLE, array_name, damaged, fingerprint_of, open_arrays, write_arrays
from mmnar.errors import ConfigError, LeakageError, SchemaError, StoreError, nearest
from mmnar.files import first_changed, is_temporary, read_sealed, sweep, write_sealed, write_whole
from mmnar.lock import alone, contents
from mmnar.predictions import Predictions
from mmnar.roles import ROLES, Calibration, Development, R, Test, Train, Tune, key_mark, subject_digests, subject_keys
from mmnar.schema import ModalitySpec, Schema
from mmnar.shown import Shown, names, sized

__all__ = [
    "KEY",
    "Fold",
    "PatientDataset",
    "claim_store",
    "cross_folds",
    "divided",
    "make_dataset",
    "open_store",
    "presence",
    "secret_of",
    "write_store",
]

STORE_VERSION: Final = 4
BESIDE: Final = ("events", "cache")
"""Folders of a store that ``prepare`` fills before the arrays: the events as a MEDS dataset, encoded notes."""
KEY: Final = "subjects.key"
"""File with the secret under which what is fitted on this store remembers its subjects; never copied into a run."""
_KEY_BYTES: Final = 32


def presence(content: Content, spec: ModalitySpec) -> NDArray[np.bool_]:
    """(N,) δ of one modality. Static: present unless more than ``max_missing`` of its features is missing (paper
    C.1.2), row by row and over all features of the schema, so that no patient's pattern depends on another's or on a
    fold. The other kinds: present with the first item.

    >>> spec = ModalitySpec("labs", tuple(__import__("mmnar.schema").schema.Feature(f"f{i}") for i in range(5)))
    >>> presence(np.array([[1, np.nan, np.nan, np.nan, np.nan], [np.nan] * 5], dtype=np.float32), spec).tolist()
    [True, False]
    """
    if not isinstance(content, np.ndarray):
        return content.counts > 0
    missing = np.isnan(content)
    result: NDArray[np.bool_] = (missing.mean(axis=1) <= spec.max_missing + 1e-9) & ~missing.all(axis=1)
    return result


@dataclass(frozen=True, repr=False)
class PatientDataset(Shown):
    """N samples with M modalities and K labels.

    Args:
        schema: Names and order.
        values: modality → (N, F) float32, NaN where not observed or where the modality is absent; of other kinds
            than static, what ``dataset.content`` describes.
        labels, label_mask: (N, K) bool.
        present: (N, M) bool, δ.
        subject_id, hadm_id, stay_id: (N,) int64.
        prediction_time: (N,) int64 microseconds.
        attributes: name → (N,) str, "" = unknown.
        manifest: Source, version, attrition, warnings, fingerprint; plain JSON.
        bayes: (N, K) exact Bayes risks of a simulated source; otherwise None.
        secret: Key of the subjects' digests; a part of a dataset keeps it.
        left_out: (N,) bool, samples that play no role (``dataset.regimes``); None = none of them.
    """

    schema: Schema
    values: dict[str, Content]
    labels: NDArray[np.bool_]
    label_mask: NDArray[np.bool_]
    present: NDArray[np.bool_]
    subject_id: NDArray[np.int64]
    hadm_id: NDArray[np.int64]
    stay_id: NDArray[np.int64]
    prediction_time: NDArray[np.int64]
    attributes: dict[str, NDArray[np.str_]]
    manifest: dict[str, Any] = field(default_factory=dict)
    bayes: NDArray[np.float64] | None = None
    secret: bytes = field(default_factory=partial(token_bytes, _KEY_BYTES), repr=False)
    left_out: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.subject_id)

    def _facts(self) -> dict[str, str]:
        return {
            "source": str(self.manifest.get("source", "unnamed")),
            "size": sized(len(self), len(np.unique(self.subject_id))),
            "modalities": names([f"{m.name} ({m.kind})" for m in self.schema.modalities]),
            "tasks": names(self.schema.task_names),
            "fingerprint": self.fingerprint or "none",
        }

    @property
    def fingerprint(self) -> str:
        return str(self.manifest.get("fingerprint", ""))

    @property
    def id_space(self) -> str:
        """Where subject identifiers are valid: the source's name unless it says otherwise."""
        return str(self.manifest.get("id_space", self.manifest.get("source", "")))

    def keyed_like(self, other: PatientDataset) -> PatientDataset:
        """The same samples, their digests comparable with those of ``other``, where a model was fitted."""
        return replace(self, secret=other.secret)

    def asking(self, tasks: Sequence[str]) -> PatientDataset:
        """The same samples with some of the tasks alone, in the schema's order."""
        at = [k for k, task in enumerate(self.schema.task_names) if task in tasks]
        return replace(
            self,
            schema=self.schema.asking(tasks),
            labels=self.labels[:, at],
            label_mask=self.label_mask[:, at],
            bayes=None if self.bayes is None else self.bayes[:, at],
        )

    def with_modalities(self, names: Sequence[str]) -> PatientDataset:
        """The same samples with some of the modalities, in the schema's order; exact risks, which knew the others, are
        left out. Without names, everything.

        Raises:
            ConfigError: No such modality; the nearest name is offered.
        """
        known = self.schema.modality_names
        for name in names:
            if name not in known:
                raise ConfigError(f"modality '{name}'", "one of the store", "another", nearest(name, known))
        specs = tuple(m for m in self.schema.modalities if m.name in names)
        if not names or len(specs) == len(known):
            return self
        return replace(
            self,
            schema=replace(self.schema, modalities=specs),
            values={m.name: self.values[m.name] for m in specs},
            present=self.present[:, [known.index(m.name) for m in specs]],
            bayes=None,
            # a store of some modalities is not what its recipe makes
            manifest={key: value for key, value in self.manifest.items() if key != "recipe"},
        )

    def hiding(self, modality: str, hidden: NDArray[np.bool_]) -> PatientDataset:
        """The same samples where (N,) ``hidden`` ones lack a modality: not present, and nothing behind it."""
        at = self.schema.modality_names.index(modality)
        present = self.present.copy()
        present[hidden, at] = False
        values = {**self.values, modality: blanked(self.values[modality], present[:, at])}
        return replace(self, values=values, present=present)

    @overload
    def fold(self, split: Split, role: Literal["development"]) -> Fold[Development]: ...
    @overload
    def fold(self, split: Split, role: Literal["train"]) -> Fold[Train]: ...
    @overload
    def fold(self, split: Split, role: Literal["tune"]) -> Fold[Tune]: ...
    @overload
    def fold(self, split: Split, role: Literal["calibration"]) -> Fold[Calibration]: ...
    @overload
    def fold(self, split: Split, role: Literal["test"]) -> Fold[Test]: ...
    def fold(self, split: Split, role: str) -> Fold[Any]:
        """The samples whose subjects play ``role``. The only way to get a Fold.

        Raises:
            ConfigError: No such role.
        """
        check_role(role)
        roles = split.roles(self.subject_id, self.attributes)
        mine = roles != Test.name if role == Development.name else roles == role
        rows = np.flatnonzero(mine if self.left_out is None else mine & ~self.left_out)
        return Fold(self, rows, ROLES[role], split.fold)


@dataclass(frozen=True, repr=False)
class Fold(Shown, Generic[R]):
    """A view of some samples in one role."""

    dataset: PatientDataset
    rows: NDArray[np.int64]
    role: type[R]
    number: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def _facts(self) -> dict[str, str]:
        own, total = (len(np.unique(of)) for of in (self.subject_id, self.dataset.subject_id))
        return {
            "role": self.role.name,
            "size": sized(len(self), own, total),
            "modalities": names(self.schema.modality_names),
            "tasks": names(self.schema.task_names),
        }

    @property
    def schema(self) -> Schema:
        return self.dataset.schema

    @property
    def subject_id(self) -> NDArray[np.int64]:
        return self.dataset.subject_id[self.rows]

    @property
    def labels(self) -> NDArray[np.bool_]:
        return self.dataset.labels[self.rows]

    @property
    def label_mask(self) -> NDArray[np.bool_]:
        return self.dataset.label_mask[self.rows]

    @property
    def present(self) -> NDArray[np.bool_]:
        return self.dataset.present[self.rows]

    def asking(self, tasks: Sequence[str]) -> Fold[R]:
        """The same fold with some of the tasks alone; itself where it is all of them."""
        return self if tuple(tasks) == self.schema.task_names else replace(self, dataset=self.dataset.asking(tasks))

    def hiding(self, modality: str) -> Fold[R]:
        """The same samples where nobody has one modality."""
        return replace(self, dataset=self.dataset.hiding(modality, np.ones(len(self.dataset), dtype=bool)))

    def parts(self, rows: int) -> Iterator[Fold[R]]:
        """The fold in parts of so many samples, in order; none where it is empty."""
        for start in range(0, len(self), rows):
            yield self if len(self) <= rows else replace(self, rows=self.rows[start : start + rows])

    def content(self, modality: str) -> Content:
        """What ``dataset.content`` describes, of this fold's samples."""
        return taken(self.dataset.values[modality], self.rows)

    def values(self, modality: str) -> NDArray[np.float32]:
        """(n, F) of a static modality, with NaN where not observed."""
        content = self.content(modality)
        assert isinstance(content, np.ndarray)
        return content

    def subject_digest(self) -> NDArray[np.uint64]:
        """(n,) keyed digests of the subjects."""
        return subject_digests(self.subject_id, self.dataset.secret, self.dataset.id_space)

    def subjects(self) -> NDArray[np.uint64]:
        """Sorted digests of the subjects of this fold, with the mark of their key."""
        return np.union1d(self.subject_digest(), key_mark(self.dataset.secret))

    def predictions(
        self,
        proba: NDArray[np.float64],
        fitted_subjects: NDArray[np.uint64],
        provenance: dict[str, Any],
        known: NDArray[np.bool_] | None = None,
    ) -> Predictions[R]:
        """Wrap risks (n, K) of this fold's samples, in order; tasks that are not ``known`` (K,) as if not asked."""
        d, r = self.dataset, self.rows
        asked = d.label_mask[r] if known is None else d.label_mask[r] & known
        return Predictions(
            self.role,
            d.schema.task_names,
            d.schema.modality_names,
            np.asarray(proba, dtype=np.float64),
            d.labels[r] & asked,
            asked,
            d.present[r],
            d.subject_id[r],
            d.hadm_id[r],
            d.stay_id[r],
            d.prediction_time[r],
            {k: v[r] for k, v in d.attributes.items()},
            np.zeros(len(r), dtype=np.int64),
            self.subject_digest(),
            int(key_mark(d.secret)),
            (fitted_subjects,),
            None if d.bayes is None else d.bayes[r],
            d.id_space,
            {"data": d.fingerprint, **provenance},
            d.schema.panels,
        )


def divided(subject_id: NDArray[np.int64], folds: int, seed: int = 0) -> NDArray[np.int64]:
    """(n,) which of ``folds`` folds each subject is in, by the hash of the subject.

    Raises:
        LeakageError: A fold would be empty.
    """
    fold = (subject_keys(subject_id, seed + 7_777_777) / 2.0**64 * folds).astype(np.int64)
    if len(np.unique(fold)) < folds:
        raise LeakageError("cross-fitting", f"subjects in each of {folds} folds", "an empty one", "use fewer folds")
    return fold


def cross_folds(
    development: Fold[Development], folds: int, tune: float = 0.15, seed: int = 0
) -> Iterator[tuple[Fold[Train], Fold[Tune], Fold[Calibration]]]:
    """Three folds a fit: who is fitted on, who stops it, and who is scored by it; no subject is in two of them.

    The calibration folds together hold every sample once. Who tunes is drawn anew for each fit.

    Args:
        folds: K fits.
        tune: Share, of the subjects who are not held out.

    Raises:
        LeakageError: Another fold than that of development, or a fold of the three would be empty.
    """
    if development.role is not Development:
        role = development.role.name
        raise LeakageError(
            "cross-fitting", "the development fold", f"the {role} fold", "pass fold(split, 'development')"
        )
    data, rows, number = development.dataset, development.rows, development.number
    held = divided(development.subject_id, folds, seed)
    for k in range(folds):
        drawn = subject_keys(development.subject_id, seed + 1_000_003 * (k + 2)) / 2.0**64 < tune
        parts = (rows[(held != k) & ~drawn], rows[(held != k) & drawn], rows[held == k])
        if not all(map(len, parts)):
            raise LeakageError(
                f"fit {k + 1} of {folds}",
                "subjects to train, to tune and to score",
                "none for one of these",
                "use more subjects or fewer fits",
            )
        yield (
            Fold(data, parts[0], Train, number),
            Fold(data, parts[1], Tune, number),
            Fold(data, parts[2], Calibration, number),
        )


def write_store(path: Path, dataset: PatientDataset) -> Path:
    """Write ``dataset`` to ``path``; a store already there is replaced only when the new one is whole.

    Raises:
        StoreError: The path exists and is not a store, somebody else writes there, or the disk is full.
    """
    path = Path(path)
    with alone(path, "store"):
        claim_store(path)
        temporary = path / f".tmp-{uuid.uuid4().hex[:12]}"
        placed: Path | None = None
        try:
            files = write_arrays(temporary, _arrays(dataset))
            fingerprint = fingerprint_of(dataset.schema, files)
            data = path / f"data-{fingerprint}"
            if data.exists() and first_changed(data, files, afresh=True):
                # what a kill left of an older store with the same content
                shutil.rmtree(data)
            if data.exists():
                shutil.rmtree(temporary)
            else:
                os.replace(temporary, data)
                placed = data
            manifest = {
                **dataset.manifest,
                "store_version": STORE_VERSION,
                "fingerprint": fingerprint,
                "data": data.name,
                "files": files,
                "schema": dataset.schema.to_dict(),
                "schema_digest": dataset.schema.digest(),
                "samples": len(dataset),
            }
            _keep_secret(path, dataset.secret)
            write_sealed(path / "manifest.json", manifest)
        except OSError as error:
            for remains in (temporary, placed):
                if remains is not None and not _is_current(path, remains.name):
                    shutil.rmtree(remains, ignore_errors=True)
            raise StoreError(
                f"writing '{path}'",
                "room and permission to write",
                error.strerror or type(error).__name__,
                "the store that was there is unchanged",
            ) from error
        _sweep(path, data.name)
    return path


def claim_store(path: Path) -> None:
    """Make the folder of a store, or refuse one that holds something else, before any work is done; sweep what kills
    left in it. For whoever alone may write there (``lock.alone``).

    Raises:
        StoreError: The path exists and is not a store, or cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        others = [name for name in contents(path) if name not in (*BESIDE, KEY) and not name.startswith("data-")]
        if not others or "manifest.json" in others:
            sweep(path)
    except OSError as error:
        fact = error.strerror or type(error).__name__
        raise StoreError(f"'{path}'", "a folder that can be written", fact, "choose another --out") from error
    if others and "manifest.json" not in others:
        raise StoreError(f"'{path}'", "an empty folder or a store", "other files", "choose another --out")


def secret_of(path: Path) -> bytes | None:
    """The key of a store that is, or was begun, in this folder; None where there is none.

    Raises:
        StoreError: It is damaged.
        OSError: It may not be read.
    """
    file = path / KEY
    if not file.is_file():
        return None
    secret = file.read_bytes()
    if len(secret) != _KEY_BYTES:
        raise StoreError(f"'{file}'", "the key that prepare wrote", "another file", "take it from a copy of the store")
    return secret


def _keep_secret(path: Path, secret: bytes) -> None:
    def write(file: Path) -> None:
        file.write_bytes(secret)
        file.chmod(0o600)

    if not (path / KEY).is_file() or (path / KEY).read_bytes() != secret:
        write_whole(path / KEY, write)


def _is_current(path: Path, data: str) -> bool:
    """Whether the store's manifest names this data folder."""
    try:
        return bool(json.loads((path / "manifest.json").read_text(encoding="utf-8"))["data"] == data)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sweep(path: Path, current: str) -> None:
    """Delete older data folders and what kills left."""
    for stale in path.iterdir():
        if stale.name != current and (stale.name.startswith("data-") or is_temporary(stale.name)):
            if stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)


def open_store(path: str | Path, verify: bool = False) -> PatientDataset:
    """Open a store; arrays are memory-mapped read-only.

    Every file's type, shape and size is checked against the schema, and its hash, too: once, and again when the file
    has changed since (see ``files.first_changed``).

    Args:
        path: The folder that ``prepare`` wrote.
        verify: Recompute every hash, whatever is remembered.

    Raises:
        StoreError: Not a store, written by another version, or damaged; names the file.
        OSError: A file may not be read.
    """
    path = Path(path)
    manifest_path = path / "manifest.json"
    if not manifest_path.is_file():
        raise StoreError(f"'{path}'", "a store (manifest.json)", "none", "run `mmnar prepare` or `mmnar demo` first")
    version = ("store_version", STORE_VERSION)
    manifest = read_sealed(manifest_path, f"store '{path}'", "prepare it again", version)
    try:
        schema = Schema.from_dict(manifest["schema"])
        data, files, n = path / str(manifest["data"]), dict(manifest["files"]), int(manifest["samples"])
        whole = fingerprint_of(schema, files) == manifest["fingerprint"] and n >= 0
    except (KeyError, TypeError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise StoreError(f"store '{path}'", "the manifest that prepare wrote", "another", "prepare it again")
    secret = secret_of(path)
    if secret is None:
        raise damaged(KEY)
    a = open_arrays(data, files, schema, n)
    changed = first_changed(data, files, afresh=verify)
    if changed:
        raise damaged(changed)
    return PatientDataset(
        schema,
        {
            m.name: content_of(m, {part: a[array_name(m.name, part)] for part in part_names(m)})
            for m in schema.modalities
        },
        a["labels"],
        a["label_mask"],
        a["present"],
        a["subject_id"],
        a["hadm_id"],
        a["stay_id"],
        a["prediction_time"],
        {name: a[f"attributes/{name}"] for name in schema.attributes},
        manifest,
        a.get("truth/bayes"),
        secret,
    )


def make_dataset(
    schema: Schema,
    values: Mapping[str, Content],
    labels: NDArray[np.bool_],
    label_mask: NDArray[np.bool_],
    subject_id: NDArray[np.int64],
    hadm_id: NDArray[np.int64],
    stay_id: NDArray[np.int64],
    prediction_time: NDArray[np.int64],
    attributes: Mapping[str, NDArray[np.str_]],
    manifest: dict[str, Any] | None = None,
    bayes: NDArray[np.float64] | None = None,
) -> PatientDataset:
    """Build a dataset: derive δ, blank what lies behind an absent modality, check shapes.

    Raises:
        SchemaError: A shape does not fit or a value is infinite.
    """
    n = len(subject_id)
    present = np.zeros((n, len(schema.modalities)), dtype=bool)
    contents: dict[str, Content] = {}
    for i, spec in enumerate(schema.modalities):
        content = values[spec.name]
        if isinstance(content, np.ndarray):
            content = content.astype(np.float32, copy=False)
        _check_content(content, spec, n)
        present[:, i] = presence(content, spec)
        contents[spec.name] = blanked(content, present[:, i])
    k = len(schema.tasks)
    for name, array in (("labels", labels), ("label_mask", label_mask)):
        if array.shape != (n, k):
            raise SchemaError(name, f"{(n, k)}", f"{array.shape}", "fix the cohort")
    return PatientDataset(
        schema,
        contents,
        labels & label_mask,
        label_mask,
        present,
        subject_id.astype(np.int64),
        hadm_id.astype(np.int64),
        stay_id.astype(np.int64),
        prediction_time.astype(np.int64),
        {a: np.asarray(attributes[a], dtype=np.str_) for a in schema.attributes},
        manifest or {},
        bayes,
    )


def _check_content(content: Content, spec: ModalitySpec, n: int) -> None:
    if not isinstance(content, np.ndarray):
        content.check(spec, n)
        return
    if content.shape != (n, len(spec.features)):
        raise SchemaError(f"modality '{spec.name}'", f"{(n, len(spec.features))}", f"{content.shape}", "fix the source")
    if np.isinf(content).any():
        raise SchemaError(f"modality '{spec.name}'", "finite numbers or NaN", "infinity", "set plausible ranges")


def _arrays(dataset: PatientDataset) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {name: getattr(dataset, name) for name in PER_SAMPLE}
    arrays |= {
        array_name(name, part): array
        for name, content in dataset.values.items()
        for part, array in content_arrays(content).items()
    }
    arrays |= {f"attributes/{name}": v for name, v in dataset.attributes.items()}
    if dataset.bayes is not None:
        arrays["truth/bayes"] = dataset.bayes
    return arrays
