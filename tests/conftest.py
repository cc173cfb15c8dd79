"""Runs that are served. Made-up predictions: logit-normal risks, patterns of independent bits, labels drawn from what
``bayes`` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from mmnar.predictions import Predictions
from mmnar.roles import Calibration, Role, key_mark, subject_digests
from tests.serving import Served, serving_a_table, serving_meds

SECRET = b"of the tests"
NOBODY = np.empty(0, dtype=np.uint64)


def draw_predictions(
    n: int = 400,
    role: type[Role] = Calibration,
    seed: int = 0,
    first_subject: int = 0,
    tasks: tuple[str, ...] = ("death", "los"),
    modalities: int = 3,
    bias: np.ndarray | None = None,
    rows_per_subject: int = 1,
    centre: float = -1.5,
    model: str = "made_up",
) -> Predictions[Any]:
    """N rows; ``bias`` (M,) is what each observed modality adds to the true logit beyond ``proba``."""
    rng = np.random.default_rng(seed)
    present = rng.random((n, modalities)) < np.linspace(0.9, 0.4, modalities)
    l = rng.normal(centre, 1.0, (n, len(tasks)))  # noqa: E741
    truth = expit(l + (present @ (np.zeros(modalities) if bias is None else bias))[:, None])
    mask = rng.random((n, len(tasks))) < 0.9
    subject = first_subject + np.arange(n) // rows_per_subject
    return Predictions(
        role=role,
        tasks=tasks,
        modalities=tuple("abcdefghij"[:modalities]),
        proba=expit(l),
        labels=(rng.random((n, len(tasks))) < truth) & mask,
        label_mask=mask,
        present=present,
        subject_id=subject,
        hadm_id=subject * 10,
        stay_id=np.arange(n),
        prediction_time=np.arange(n) * 1_000_000,
        attributes={"sex": rng.choice(np.array(["F", "M", ""]), n)},
        fold=np.zeros(n, dtype=np.int64),
        subject_digest=subject_digests(subject, SECRET),
        key_mark=int(key_mark(SECRET)),
        fitted_subjects=(NOBODY,),
        bayes=truth,
        provenance={"model": model},
    )


@pytest.fixture
def draw() -> Callable[..., Predictions[Any]]:
    return draw_predictions


@pytest.fixture(scope="session")
def served_table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serving_a_table(tmp_path_factory.mktemp("served-table"))


@pytest.fixture(scope="session")
def served_meds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serving_meds(tmp_path_factory.mktemp("served-meds"))


@pytest.fixture(scope="session")
def two_policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the stores ``home`` and ``reversed``, where clinicians order for the healthier, and of ``run``, fitted
    at home: 1,500 simulated patients each, without a direct effect of the pattern."""
    from mmnar.cohort.build import build_cohort
    from mmnar.dataset.prepare import dataset_of
    from mmnar.dataset.store import write_store
    from mmnar.simulation.events import read_synthetic
    from mmnar.simulation.population import simulate
    from mmnar.simulation.questions import synthetic_criteria, synthetic_questions
    from mmnar.workflow import train_run

    folder = tmp_path_factory.mktemp("policies")
    for seed, (name, gamma) in enumerate((("home", 1.0), ("reversed", -1.0))):
        extract = read_synthetic(simulate(1500, 4, seed, eta=0.0, gamma=gamma))
        cohort = build_cohort(extract, synthetic_criteria(), synthetic_questions())
        write_store(folder / name, dataset_of(extract, cohort))
    train_run(folder / "home", "logistic-pattern", folder / "run", ("fits=2",))
    return folder
