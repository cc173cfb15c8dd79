"""What a model folder holds of its training patients, by attack: one of them has values that nobody else has, and every
saved number is compared with those values, with each patient's activations, and with how many patients there are.

Truth comes from the fold and from running the network on it, not from what a card says.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from mmnar.cohort.split import Split
from mmnar.dataset.content import SeriesArrays
from mmnar.dataset.store import Fold, PatientDataset
from mmnar.estimators.base import Predictor
from mmnar.estimators.fusion import FusionPredictor
from mmnar.estimators.registry import estimator, model_names
from mmnar.estimators.storage import load_predictor, save_predictor
from mmnar.models.crl_mmnar import CRLMMNAR
from tests.populations import mixed_population
from tests.recipes import quick

SPLIT = Split(tune=0.2, test=0.2)
PATIENTS = 331
DIGESTS = "fitted_subjects.npy"
SETTINGS = [
    *((name, ()) for name in model_names()),
    ("crl-mmnar", ("model.pattern_input=blind",)),
    *((name, ("model.append_pattern=false",)) for name in ("boosting-pattern", "lightgbm-pattern", "logistic-pattern")),
]


def with_a_stranger(data: PatientDataset) -> tuple[PatientDataset, set[float]]:
    """One training patient's numbers become the largest or smallest of all, each a number that nobody else has."""
    train = data.fold(SPLIT, "train")
    own = int(train.rows[train.present[:, :4].sum(1).argmax()])
    values, unique = dict(data.values), set()
    for modality in data.schema.modalities:
        content = data.values[modality.name]
        if isinstance(content, np.ndarray):
            content = content.copy()
            for f, feature in enumerate(modality.features):
                if not feature.categories and not np.isnan(content[own, f]):
                    content[own, f] = (-1) ** f * (9.0 + 1.37 * f + 0.011 * len(unique))
                    unique.add(float(content[own, f]))
            values[modality.name] = content
        elif isinstance(content, SeriesArrays):
            changed = content.values.copy()
            for i in range(content.offsets[own], content.offsets[own + 1]):
                changed[i] = (-1) ** i * (11.0 + 0.713 * len(unique))
                unique.add(float(changed[i]))
            values[modality.name] = replace(content, values=changed)
    return replace(data, values=values), unique


def arrays_of(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every array and every number in text that a model folder holds."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.name
        if path.suffix == ".safetensors":
            yield from ((f"{name}: {key}", array) for key, array in load_file(path).items())
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                yield from ((f"{name}: {key}", array) for key, array in arrays.items())
        elif path.suffix == ".npy":
            yield name, np.load(path, allow_pickle=False)
        elif path.suffix == ".skops":
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if member.endswith(".npy"):
                        yield f"{name}: {member}", np.load(BytesIO(archive.read(member)), allow_pickle=False)
        else:
            assert path.suffix in (".txt", ".json"), name
            found = re.findall(r"-?\d+\.\d+(?:e[+-]?\d+)?", path.read_text())
            yield name, np.array(found, dtype=np.float64)


def numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.names:
        return np.concatenate([array[name].astype(np.float64).ravel() for name in array.dtype.names])
    return array.astype(np.float64).ravel() if array.dtype.kind in "fiu" else np.zeros(0)


def values_of_one(folder: Path, unique: set[float]) -> list[str]:
    wanted = np.array(sorted(unique))
    return [
        name
        for name, array in arrays_of(folder)
        if (np.abs(numbers(array)[:, None] - wanted) < 1e-5 * np.abs(wanted)).any()
    ]


def arrays_of_everyone(folder: Path, patients: int) -> list[str]:
    """Arrays with a slice for each training patient, be it padded with zeros."""
    found = []
    for name, array in arrays_of(folder):
        for axis in range(array.ndim if name != DIGESTS and not array.dtype.names else 0):
            if array.shape[axis] >= patients and array.dtype.kind in "fiub":
                used = (np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) != 0).any(1)
                if used.sum() == patients:
                    found.append(f"{name}, axis {axis}")
    return found


def activations(predictor: FusionPredictor, train: Fold[Any]) -> dict[int, Tensor]:
    """Width → every vector of such width that any layer makes of any training patient."""
    seen: dict[int, list[Tensor]] = {}
    batch = predictor.preprocessor.transform(train)

    def watch(_: Any, __: Any, output: Any) -> None:
        for tensor in output if isinstance(output, tuple) else (output,):
            if isinstance(tensor, Tensor) and tensor.ndim > 1 and len(tensor) == len(batch):
                seen.setdefault(tensor.shape[-1], []).append(tensor.detach().reshape(-1, tensor.shape[-1]))

    hooks = [module.register_forward_hook(watch) for module in predictor.network.modules()]
    with torch.no_grad():
        predictor.network(batch)
        if isinstance(predictor.network, CRLMMNAR):  # its vectors are made by a method, not by a layer
            watch(None, None, predictor.network.encode(batch))
    for hook in hooks:
        hook.remove()
    return {width: torch.unique(torch.cat(parts).float(), dim=0) for width, parts in seen.items()}


def vectors_of_patients(predictor: Predictor, folder: Path, train: Fold[Any]) -> list[str]:
    """Saved arrays with a vector that a layer makes of a training patient."""
    if not isinstance(predictor, FusionPredictor):
        return []
    made, found = activations(predictor, train), []
    for name, array in arrays_of(folder):
        if array.dtype.kind != "f" or array.ndim < 2 or array.shape[-1] not in made or array.shape[-1] < 4:
            continue
        vectors = torch.from_numpy(array.astype(np.float32)).reshape(-1, array.shape[-1])
        vectors = vectors[(vectors != 0).sum(1) > 3]
        if len(vectors) and float(torch.cdist(vectors, made[array.shape[-1]]).min()) < 1e-4:
            found.append(name)
    return found


@pytest.mark.parametrize(
    ("name", "settings"), SETTINGS, ids=[" ".join([name, *settings]) for name, settings in SETTINGS]
)
def test_a_folder_says_whether_it_holds_patients(name: str, settings: tuple[str, ...], tmp_path: Path) -> None:
    data, unique = with_a_stranger(mixed_population(PATIENTS))
    train, tune = data.fold(SPLIT, "train"), data.fold(SPLIT, "tune")
    recipe = estimator(name, *quick(name), *settings)
    folder = save_predictor(recipe.fit(train, tune, seed=1), tmp_path / "model")
    predictor = load_predictor(folder)
    held = [*arrays_of_everyone(folder, len(train)), *vectors_of_patients(predictor, folder, train)]
    assert bool(held) == predictor.keeps_patients == bool(recipe.card.get("keeps_patients")), held
    assert ("patient data" in (folder / "README.txt").read_text()) == predictor.keeps_patients
    assert not values_of_one(folder, unique)
