"""The simulated eICU: real columns, prepared as the release is, the simulation's pattern, labels and risks."""

from __future__ import annotations

import csv
import gzip
import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from mmnar import cli
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.simulation.eicu.release import RELEASE, TRUTH, write_eicu
from mmnar.simulation.eicu.stays import MODALITIES
from mmnar.simulation.population import Simulation
from mmnar.sources.eicu import read_eicu
from tests.records import open_data

PATIENTS = 700
_LAYOUTS = {
    # not in the open demo; as documented at eicu-crd.mit.edu
    "vitalperiodic": (
        "vitalperiodicid,patientunitstayid,observationoffset,temperature,sao2,heartrate,respiration,cvp,etco2,"
        "systemicsystolic,systemicdiastolic,systemicmean,pasystolic,padiastolic,pamean,st1,st2,st3,icp"
    ),
    "nursecharting": (
        "nursingchartid,patientunitstayid,nursingchartoffset,nursingchartentryoffset,nursingchartcelltypecat,"
        "nursingchartcelltypevallabel,nursingchartcelltypevalname,nursingchartvalue"
    ),
}


class Prepared:
    def __init__(self, root: Path, simulation: Simulation, store: Path) -> None:
        self.root, self.simulation = root, simulation
        self.data: PatientDataset = open_store(store)
        self.truth = pl.read_parquet(root / TRUTH)
        row = {s: i for i, s in enumerate(self.truth["stay_id"].to_list())}
        self.rows = np.array([row[s] for s in self.data.stay_id])

    def asked(self, task: str) -> np.ndarray:
        number = [t.name for t in self.data.schema.tasks].index(task)
        return np.flatnonzero(self.data.label_mask[:, number])

    def labels(self, task: str) -> np.ndarray:
        number = [t.name for t in self.data.schema.tasks].index(task)
        return np.asarray(self.data.labels)[self.asked(task), number]

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_csv(self.root / RELEASE / f"{name}.csv.gz", infer_schema_length=None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("trees")
    simulation = write_eicu(folder / "eicu", PATIENTS, seed=4)
    cli.prepare.eicu(root=folder / "eicu" / RELEASE, out=folder / "store")
    return Prepared(folder / "eicu", simulation, folder / "store")


def _header(path: Path) -> list[str]:
    with gzip.open(path, "rt", newline="") as handle:
        return next(csv.reader(handle))


def test_headers_are_those_of_the_release(prepared: Prepared) -> None:
    for name, layout in _LAYOUTS.items():
        path = next(p for p in (prepared.root / RELEASE).iterdir() if p.name.lower() == f"{name}.csv.gz")
        assert ",".join(_header(path)) == layout
    demo = open_data("eicu-demo-2.0")
    real = {p.name.split(".")[0].split("_")[0]: p for p in demo.glob("*.csv.gz")}
    compared = set()
    for path in sorted((prepared.root / RELEASE).iterdir()):
        name = path.name.split(".")[0].lower()
        if name in real:
            assert _header(path) == _header(real[name]), name
            compared.add(name)
    assert len(compared) == 16


def test_the_store_has_the_pattern_of_the_simulation(prepared: Prepared) -> None:
    assert [m.name for m in prepared.data.schema.modalities] == list(MODALITIES)
    early = prepared.asked("mortality")
    simulated = prepared.simulation.present[prepared.rows]
    np.testing.assert_array_equal(prepared.data.present[early], simulated[early])
    # at discharge APACHE alone may be missing: its first day was not over
    late = prepared.asked("readmission")
    apache = MODALITIES.index("apache")
    differs = np.asarray(prepared.data.present)[late] != simulated[late]
    assert not np.delete(differs, apache, axis=1).any()
    left = dict(prepared.table("patient").select("patientunitstayid", "unitdischargeoffset").iter_rows())
    short = np.array([left[s] < 24 * 60 for s in prepared.data.stay_id[late]])
    np.testing.assert_array_equal(differs[:, apache], simulated[late, apache] & short)
    assert 0 < short.mean() < 0.2


def test_the_store_has_the_labels_of_the_simulation(prepared: Prepared) -> None:
    _, died, readmitted = prepared.simulation.labels.T
    for task, label in (("mortality", died), ("readmission", readmitted & ~died)):
        rows = prepared.rows[prepared.asked(task)]
        np.testing.assert_array_equal(prepared.labels(task), label[rows])
        recorded = prepared.truth[f"label:{task}"].gather(rows.tolist())
        np.testing.assert_array_equal(recorded.to_numpy().astype(bool), label[rows])
    assert prepared.truth["label:readmission"].null_count() == died.sum()
    assert len(prepared.asked("readmission")) == PATIENTS - died.sum()


def test_recorded_risks_are_calibrated_for_those_asked(prepared: Prepared) -> None:
    for task in ("mortality", "readmission"):
        risk = prepared.truth[task].to_numpy()[prepared.rows[prepared.asked(task)]]
        label = prepared.labels(task)
        assert abs((label - risk).sum()) < 3 * np.sqrt((risk * (1 - risk)).sum()), task
        assert roc_auc_score(label, risk) > 0.65, task


@pytest.mark.parametrize(
    ("modality", "feature", "dimension", "sign"),
    [
        ("demographics", "age", 0, 1),
        ("admission", "hours_in_hospital_before", 0, 1),
        ("apache", "acute_physiology_score", 0, 1),
        ("diagnosis", "renal_count", 2, 1),
        ("medication", "diuretic_orders", 2, 1),
        ("laboratory", "creatinine_mean", 1, 1),
        ("vital_signs", "noninvasive_mean_mean", 1, -1),
        ("respiratory", "peep_mean", 1, 1),
        ("fluid_balance", "urine_total", 1, -1),
        ("comorbidities", "history_of_asthma", 1, 1),
    ],
)
def test_features_follow_the_contents(
    prepared: Prepared, modality: str, feature: str, dimension: int, sign: int
) -> None:
    number = MODALITIES.index(modality)
    spec = prepared.data.schema.modalities[number]
    column = [f.name for f in spec.features].index(feature)
    rows = prepared.asked("mortality")
    rows = rows[np.asarray(prepared.data.present)[rows, number]]
    value = np.asarray(prepared.data.values[modality])[rows, column]
    content = prepared.simulation.content[prepared.rows[rows], number, dimension]
    seen = ~np.isnan(value)
    ranks = [np.argsort(np.argsort(a[seen])) for a in (value, content)]
    # a disease is one step of five
    assert sign * np.corrcoef(*ranks)[0, 1] > (0.6 if feature.startswith("history") else 0.85)


def test_who_reads_past_the_question_is_caught(prepared: Prepared) -> None:
    # a stay that ends just after 24 h has the lactate that tells of a return so early
    ill = pl.col("label:mortality") | pl.col("label:readmission")
    told = dict(prepared.truth.select("stay_id", ill).iter_rows())
    lactate = prepared.table("lab").filter(labname="lactate")
    asked = pl.Series(prepared.data.stay_id[prepared.asked("mortality")])
    drawn = lactate.filter((pl.col("labresultoffset") <= 1440) & pl.col("patientunitstayid").is_in(asked.implode()))
    late = drawn.filter((pl.col("labresultrevisedoffset") > 1440) & (pl.col("labresult") > 12))
    assert late.height > 5
    assert all(told[s] for s in late["patientunitstayid"])
    assert drawn.filter(pl.col("labresultrevisedoffset") <= 1440)["labresult"].max() < 12  # type: ignore[operator]
    arrests = prepared.table("diagnosis").filter(pl.col("diagnosisstring").str.contains("cardiac arrest"))
    assert (arrests["diagnosisoffset"] > 1440).sum() > 5
    # none of them reaches the inputs of those asked
    number = MODALITIES.index("diagnosis")
    column = [f.name for f in prepared.data.schema.modalities[number].features].index("cardiac_arrest")
    assert np.nanmax(np.asarray(prepared.data.values["diagnosis"])[:, column]) == 0


def test_nothing_of_the_tree_is_dropped_in_reading(prepared: Prepared) -> None:
    assert read_eicu(prepared.root / RELEASE).warnings == ()


def test_equal_seeds_make_equal_tables(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_eicu(tmp_path / name, 60, seed=seed)
        files = sorted((tmp_path / name / RELEASE).iterdir())
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in files])
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]
    people = [set(pl.read_parquet(tmp_path / name / TRUTH)["uniquepid"]) for name in "ac"]
    assert not people[0] & people[1]
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"truth", RELEASE.parts[0]}
