"""The stores a study runs on: given, simulated, planted, or a stated part of one."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from mmnar.cohort.split import Split
from mmnar.config import RowsConfig
from mmnar.dataset.content import taken
from mmnar.dataset.regimes import Regime
from mmnar.dataset.store import PatientDataset, open_store, write_store
from mmnar.errors import ConfigError, EmptyFoldError, StoreError
from mmnar.privacy import counted
from mmnar.roles import subject_keys
from mmnar.study.spec import Data

_MORE: Final = "use fewer folds, or let more patients take part"


def store_of(data: Data, folder: Path) -> Path:
    """Path of the store, made under ``folder`` where the study says how and it is not there yet.

    Raises:
        StoreError: The store given is none.
        ConfigError: Arguments that do not exist.
    """
    source = open_store(data.store).fingerprint if data.store else ""  # opened in any case: no store shows here
    if data.store and not data.subjects:
        return Path(data.store)
    asked = {key: value for key, value in asdict(data).items() if key not in ("set", "split", "reference")}
    path = folder / f"{data.name}-{_digest([asked, source])}"
    if not _is_whole(path):
        if data.store:
            write_store(path, with_subjects(open_store(data.store), data.subjects))
        else:
            _make(data, path)
    return path


def _is_whole(path: Path) -> bool:
    """Whether a store that the study made is there. A damaged one is removed, to be made again."""
    if not path.exists():
        return False
    try:
        open_store(path)
        return True
    except StoreError:
        if (path / "manifest.json").exists():
            warnings.warn(f"the study's store '{path.name}' is damaged; it is made again", stacklevel=3)
        shutil.rmtree(path)
        return False


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


def _make(data: Data, path: Path) -> None:
    """Simulate or plant a population."""
    if data.planted:
        from mmnar.simulation.planted import planted

        write_store(path, planted(data.planted["mechanism"], data.planted["patients"], data.planted.get("seed", 0)))
        return
    if data.carebench or data.medfuse:
        _make_of_records(path, data)
        return
    from mmnar.dataset.prepare import prepare
    from mmnar.simulation.events import read_synthetic
    from mmnar.simulation.population import simulate
    from mmnar.simulation.questions import synthetic_criteria, synthetic_questions

    try:
        simulation = simulate(**data.simulated)
    except TypeError as error:
        raise ConfigError(f"data '{data.name}', simulated", "arguments of simulate", str(error), "correct it") from None
    prepare(read_synthetic(simulation), synthetic_criteria(), synthetic_questions(), path)


def _make_of_records(path: Path, data: Data) -> None:
    """Raw records of the simulated world, which are gone when they are read; of CareBench's questions their exact risks
    stay in the store."""
    import polars as pl

    from mmnar.simulation.carebench.release import write_carebench
    from mmnar.simulation.mimic_iv.release import CXR, IV, TRUTH
    from mmnar.workflow import doors

    path.parent.mkdir(parents=True, exist_ok=True)
    world = {"seed": 0, "image_side": 32, **data.carebench, **data.medfuse}
    with tempfile.TemporaryDirectory(prefix=".tmp-records-", dir=path.parent) as folder:
        tree, side = Path(folder) / "tree", world["image_side"]
        write_carebench(tree, world["patients"], seed=world["seed"], images=True, side=side)
        films = {"cxr": tree / CXR, "side": side}
        if data.medfuse:
            doors.write_records(doors.medfuse(tree / IV, path / "events", task=world["task"], **films), path)
            return
        records = doors.carebench(tree / IV, path / "events", matched=world.get("matched", False), **films)
        extract = replace(records.extract, truth=pl.read_parquet(tree / TRUTH))
        doors.write_records(replace(records, extract=extract), path)


def with_subjects(dataset: PatientDataset, subjects: int) -> PatientDataset:
    """A stated number of subjects, drawn by the hash of their identifiers; the manifest says so.

    Raises:
        ConfigError: There are not so many.
    """
    keys = subject_keys(dataset.subject_id, seed=0, space=dataset.id_space)
    distinct = np.unique(keys)  # as good as random
    if subjects > len(distinct):
        raise ConfigError("data: subjects", f"at most {counted(len(distinct))}", f"{subjects}", "lower it")
    rows = np.flatnonzero(np.isin(keys, distinct[:subjects]))
    return replace(
        dataset,
        values={name: taken(content, rows) for name, content in dataset.values.items()},
        labels=dataset.labels[rows],
        label_mask=dataset.label_mask[rows],
        present=dataset.present[rows],
        subject_id=dataset.subject_id[rows],
        hadm_id=dataset.hadm_id[rows],
        stay_id=dataset.stay_id[rows],
        prediction_time=dataset.prediction_time[rows],
        attributes={name: values[rows] for name, values in dataset.attributes.items()},
        bayes=None if dataset.bayes is None else dataset.bayes[rows],
        manifest={**dataset.manifest, "subjects_kept": subjects},
    )


def check_folds(dataset: PatientDataset, splits: Sequence[Split], name: str, rows: RowsConfig) -> list[str]:
    """Refuse folds that cannot be trained on; notices about test folds that cannot be scored by themselves, and about
    outcomes of panels that a fold leaves out.

    Args:
        rows: Who plays a role.

    Raises:
        EmptyFoldError: A training or tune fold lacks events or non-events of a task outside panels, or is empty.
    """
    whole, regime = dataset, Regime(rows=rows)
    notices = []
    in_panel = {task: panel for panel in dataset.schema.panels for task in panel.tasks}
    for split in splits:
        dataset = regime.chosen(whole, split)
        for role in ("train", "tune", "test"):
            fold = dataset.fold(split, role)
            for k, task in enumerate(dataset.schema.task_names):
                y = fold.labels[fold.label_mask[:, k], k]
                if y.any() and not y.all():
                    continue
                where = f"data '{name}', fold {split.fold}, task '{task}'"
                lacking = "non-events" if y.any() else "events"
                if role != "test" and task in in_panel:
                    left = f"panel '{in_panel[task].name}'" if in_panel[task].exclusive else "the outcome"
                    notices.append(f"{where}: no {lacking} to {role} on; {left} may be left out of the fold")
                elif role == "test":
                    notices.append(f"{where}: the test fold has no {lacking}; its metrics are refused")
                else:
                    raise EmptyFoldError(where, f"events and non-events to {role} on", f"no {lacking}", _MORE)
    return notices
