"""MedFuse's two questions: nothing that became known after them moves a bit of the inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmnar.cohort.build import Cohort, build_cohort
from mmnar.cohort.medfuse import medfuse_criteria, medfuse_questions
from mmnar.dataset.content import Packed
from mmnar.dataset.gathering import Gathering
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.simulation.carebench.release import write_carebench
from mmnar.simulation.mimic_iv.release import CXR, IV
from mmnar.sources.mimic_iv.medfuse import Asked, read_medfuse
from tests.leakage.test_carebench_time import (
    assert_same_inputs,
    copy_with,
    films,
    noisy,
    other_ends,
    raw,
    table,
)

RNG = np.random.default_rng(1)
OF = {"mortality": "mortality", "phenotypes": "shock"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "tree"
    write_carebench(out, 80, seed=5, images=True, side=32)
    return out


def read(tree: Path, work: Path, asked: Asked) -> tuple[Cohort, PatientDataset]:
    extract = read_medfuse(tree / IV, work=work, asked=asked, cxr=tree / CXR, side=32)
    questions = [q for q in medfuse_questions(asked) if q.task.name == OF[asked]]
    cohort = build_cohort(extract, medfuse_criteria(asked), questions)
    return cohort, dataset_of(extract, cohort, Gathering(folder=work))


@pytest.mark.parametrize("asked", ["mortality", "phenotypes"])
def test_noise_after_the_question_moves_no_bit(tree: Path, tmp_path: Path, asked: Asked) -> None:
    cohort, data = read(tree, tmp_path / "clean", asked)
    # of who is asked twice, after both
    moments = cohort.samples.select(pl.col("subject_id").cast(pl.String), moment="prediction_time")
    moments = moments.group_by("subject_id").agg(pl.col("moment").max())
    changed = {
        f"{module}/{name}": noisy(table(tree, name), moments, ("charttime", "storetime"))
        for module, name in (("icu", "chartevents"), ("hosp", "labevents"))
    }
    if asked == "mortality":
        stays = table(tree, "icustays")
        ours = pl.col("stay_id").is_in(cohort.samples["stay_id"].cast(pl.String).implode())
        longer = pl.duration(hours=pl.Series(RNG.integers(0, 400, stays.height)))
        later = pl.col("outtime").str.to_datetime() + pl.when(ours).then(longer).otherwise(pl.duration())
        changed["icu/icustays"] = stays.with_columns(outtime=later.dt.strftime("%Y-%m-%d %H:%M:%S"))
        changed["hosp/admissions"] = other_ends(table(tree, "admissions"), cohort)
    else:
        codes = table(tree, "diagnoses_icd")
        order = RNG.permutation(codes.height)
        changed["hosp/diagnoses_icd"] = codes.with_columns(codes[c].gather(order) for c in ("icd_code", "icd_version"))
    changed = {str(IV / key): frame for key, frame in changed.items()}
    changed[str(CXR / "mimic-cxr-2.0.0-metadata")] = films(raw(tree / CXR / "mimic-cxr-2.0.0-metadata.csv.gz"), moments)
    _, other = read(copy_with(tree, tmp_path / "copy", changed), tmp_path / "noisy", asked)
    assert_same_inputs(data, other)
    assert (data.labels != other.labels).any()
    # as a check on the check: there is something that could have moved
    content = data.values["ehr"]
    assert isinstance(content, Packed)
    names = data.schema.modalities[0].feature_names
    there = np.bincount(content.arrays()["feature"], minlength=len(names))
    for name in ("gcs_total_15", "gcs_eye_4", "capillary_refill_1", "heart_rate", "glucose", "weight"):
        assert there[names.index(name)] > 20, name
    assert data.present[:, data.schema.modality_names.index("cxr")].sum() > 5
    meds = pl.read_parquet(sorted((tmp_path / "noisy" / "meds" / "data").glob("*.parquet")))
    assert not meds["code"].str.contains("PHENOTYPE|DIAGNOSIS|DISCHARGE|TOTAL").any()
