"""The stores a study runs on: given, simulated, planted, or a stated part of one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mmnar.cohort.split import Split
from mmnar.dataset.content import taken
from mmnar.dataset.store import PatientDataset, open_store, write_store
from mmnar.errors import ConfigError, nearest
from mmnar.privacy import counted
from mmnar.roles import subject_keys
from mmnar.study.spec import Data


def store_of(data: Data, folder: Path) -> Path:
    """Path of the store, made under ``folder`` where the study says how and it is not there yet.

    Raises:
        StoreError: The store given is none.
        ConfigError: Arguments or modalities that do not exist.
    """
    if data.store and not data.subjects and not data.modalities:
        return Path(data.store)
    recipe = json.dumps(asdict(data), sort_keys=True)
    path = folder / f"{data.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    if not (path / "manifest.json").is_file():
        whole = open_store(data.store) if data.store else _made(data, path)
        if data.subjects or data.modalities:
            write_store(path, part_of(whole, data))
    return path


def _made(data: Data, path: Path) -> PatientDataset:
    """Simulate or plant a population and write it."""
    if data.planted:
        from mmnar.dataset.planted import planted

        write_store(path, planted(data.planted["mechanism"], data.planted["patients"], data.planted.get("seed", 0)))
        return open_store(path)
    from mmnar.cohort.synthetic import synthetic_criteria, synthetic_questions
    from mmnar.dataset.prepare import prepare
    from mmnar.sources.simulator import simulate
    from mmnar.sources.synthetic import read_synthetic

    try:
        simulation = simulate(**data.simulated)
    except TypeError as error:
        raise ConfigError(f"data '{data.name}', simulated", "arguments of simulate", str(error), "correct it") from None
    prepare(read_synthetic(simulation), synthetic_criteria(), synthetic_questions(), path)
    return open_store(path)


def part_of(dataset: PatientDataset, data: Data) -> PatientDataset:
    """The stated number of subjects, the stated modalities; the manifest says so."""
    names = data.modalities or dataset.schema.modality_names
    for name in names:
        if name not in dataset.schema.modality_names:
            hint = nearest(name, dataset.schema.modality_names)
            raise ConfigError(f"data '{data.name}': modality '{name}'", "one of the store", "another", hint)
    keys = subject_keys(dataset.subject_id, seed=0, space=dataset.id_space)
    if data.subjects > len(np.unique(keys)):
        raise ConfigError(
            f"data '{data.name}': subjects", f"at most {counted(len(np.unique(keys)))}", f"{data.subjects}", "lower it"
        )
    kept = np.unique(keys)[: data.subjects] if data.subjects else keys  # keys are as good as random
    rows = np.flatnonzero(np.isin(keys, kept))
    specs = tuple(m for m in dataset.schema.modalities if m.name in names)
    columns = [dataset.schema.modality_names.index(m.name) for m in specs]
    return replace(
        dataset,
        schema=replace(dataset.schema, modalities=specs),
        values={m.name: taken(dataset.values[m.name], rows) for m in specs},
        labels=dataset.labels[rows],
        label_mask=dataset.label_mask[rows],
        present=dataset.present[rows][:, columns],
        subject_id=dataset.subject_id[rows],
        hadm_id=dataset.hadm_id[rows],
        stay_id=dataset.stay_id[rows],
        prediction_time=dataset.prediction_time[rows],
        attributes={name: values[rows] for name, values in dataset.attributes.items()},
        bayes=None if dataset.bayes is None or data.modalities else dataset.bayes[rows],
        manifest={**dataset.manifest, "part": {"subjects": data.subjects, "modalities": list(names)}},
    )


def check_folds(dataset: PatientDataset, splits: list[Split], name: str) -> list[str]:
    """Refuse folds that cannot be trained on; words about test folds that cannot be scored by themselves.

    Raises:
        ConfigError: A training or tune fold lacks events or non-events of a task.
    """
    words = []
    for split in splits:
        for role in ("train", "tune", "test"):
            fold = dataset.fold(split, role)
            for k, task in enumerate(dataset.schema.task_names):
                y = fold.labels[fold.label_mask[:, k], k]
                if y.any() and not y.all():
                    continue
                where = f"data '{name}', fold {split.fold}, task '{task}'"
                lacking = "non-events" if y.any() else "events"
                if role == "test":
                    words.append(f"{where}: the test fold has no {lacking}; its metrics are refused")
                else:
                    raise ConfigError(where, f"events and non-events to {role} on", f"no {lacking}", "use fewer folds")
    return words
