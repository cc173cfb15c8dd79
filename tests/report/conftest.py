"""A made-up study, large enough to exercise every part of a report. No model was run: numbers are drawn."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from mmnar.cohort.build import AttritionStep
from mmnar.dataset.store import PatientDataset, make_dataset
from mmnar.evaluation.atlas import availability
from mmnar.evaluation.informative import informativeness
from mmnar.evaluation.result import Comparison, Curve, Estimate, GroupRow, ModelTask, OracleBound, Result, TaskCounts
from mmnar.posthoc.base import Offset
from mmnar.privacy import COMPLEMENT
from mmnar.report.inputs import ReportInputs, RunRecord, StoreFacts
from mmnar.schema import Feature, ModalitySpec, Schema, Task

TASKS = {"mortality": 0.82, "readmission": 0.66, "post_discharge_icu": 0.71}
MODELS = {"crl-mmnar": 0.012, "late-fusion": 0.0, "gradient-boosting": 0.004, "pattern-only": -0.14, "m3care": -0.01}
MODALITIES = {"demographics": 1.0, "laboratory": 0.93, "radiology_note": 0.85, "discharge_note": 0.755, "cxr": 0.26}
RARE = "only cxr"


def make_schema() -> Schema:
    modalities = tuple(
        ModalitySpec(name, tuple(Feature(f"{name}_{j}") for j in range(4)), "static") for name in MODALITIES
    )
    tasks = (
        Task("mortality", "48 h after unit admission", "death in hospital"),
        Task("readmission", "at discharge", "any later admission within 30 days"),
        Task("post_discharge_icu", "at discharge", "an intensive care stay that begins within 90 days"),
    )
    return Schema(modalities, tasks, ("age_group", "sex"))


def make_patients(n: int = 5000, seed: int = 3) -> PatientDataset:
    rng = np.random.default_rng(seed)
    severity = rng.normal(size=n)
    schema = make_schema()
    values = {}
    for name, rate in MODALITIES.items():
        v = rng.normal(size=(n, 4)).astype(np.float32)
        v[rng.random((n, 4)) < 0.12] = np.nan
        shift = 0.0 if rate == 1.0 else np.log(rate / (1 - rate))
        absent = rng.random(n) > 1 / (1 + np.exp(-(shift + 0.7 * severity))) if rate < 1 else np.zeros(n, dtype=bool)
        v[absent] = np.nan
        values[name] = v
    risk = 1 / (1 + np.exp(-(np.array([-2.4, -1.6, -2.2]) + severity[:, None])))
    ids = np.arange(n)
    return make_dataset(
        schema,
        values,
        rng.random((n, 3)) < risk,
        rng.random((n, 3)) < np.array([1.0, 0.88, 0.88]),
        10_000 + ids,
        20_000 + ids,
        30_000 + ids,
        ids * 0,
        {"age_group": rng.choice(["18-44", "45-64", "65-79", "80+"], n), "sex": rng.choice(["F", "M"], n)},
        manifest={
            "source": "simulated",
            "version": "1",
            "fingerprint": "4f1c2a9be07d5513",
            "seed": seed,
            "attrition": {
                "cohort": [asdict(s) for s in _cohort_flow(n)],
                "mortality": [
                    asdict(AttritionStep("cohort", n, n)),
                    asdict(AttritionStep("in the unit 48 h later", n - 731, n - 731)),
                ],
                "readmission": [
                    asdict(AttritionStep("cohort", n, n)),
                    asdict(AttritionStep("left hospital alive", n - 612, n - 612, hindsight=True)),
                ],
            },
            "warnings": ["3 laboratory units were not recognised; their values were dropped"],
            "schema": schema.to_dict(),
            "store_version": 1,
            "samples": n,
        },
    )


def _cohort_flow(n: int) -> list[AttritionStep]:
    return [
        AttritionStep("all unit stays", n + 4200, n + 2900),
        AttritionStep("first stay of each patient", n + 2900, n + 2900),
        AttritionStep("age 18 or more", n + 2896, n + 2896),
        AttritionStep("stay of 12 h or more", n + 1100, n + 1100, hindsight=True),
        AttritionStep("at least one modality", n, n),
    ]


def interval_of(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half)


def curves(auroc: float, rate: float) -> tuple[Curve, Curve]:
    x = np.linspace(0, 1, 120)
    y = x ** ((1 - auroc) / auroc)
    precision = np.r_[1.0, rate * y[1:] / (rate * y[1:] + (1 - rate) * x[1:])]
    return Curve(tuple(x.tolist()), tuple(y.tolist())), Curve(tuple(y.tolist()), tuple(precision.tolist()))


def make_entry(auroc: float, rate: float, rng: np.random.Generator, tilt: float) -> ModelTask:
    roc, pr = curves(auroc, rate)
    x = np.linspace(0.02, 2.4 * rate, 8)
    y = np.clip(tilt * x + rng.normal(0, 0.008, 8), 0, 1)
    calibration = Curve(
        tuple(x.tolist()),
        tuple(y.tolist()),
        tuple(np.clip(y - 0.02 - 0.06 * x, 0, 1).tolist()),
        tuple((y + 0.02 + 0.06 * x).tolist()),
    )
    metrics = {
        "auroc": interval_of(auroc, 0.024),
        "auprc": interval_of(0.2 + auroc * 0.3, 0.031),
        "brier": interval_of(0.11 - auroc * 0.05, 0.006),
        "log_loss": interval_of(0.55 - auroc * 0.3, 0.012),
        "ece": interval_of(0.02 + rng.random() * 0.02, 0.008),
        "auroc_within_pattern": interval_of(0.5 + (auroc - 0.5) * 0.86, 0.027),
        "auroc_between_pattern": interval_of(auroc + 0.01, 0.025),
        "pattern_pair_share": Estimate(0.31),
        "auroc_gap_to_bayes": interval_of(0.86 - auroc, 0.004),
        "kl_to_bayes": interval_of(0.0153 + (0.86 - auroc) / 9, 0.0021),
    }
    names = ("all modalities", "all but cxr", "demographics + laboratory")
    groups = [make_group(g, int(900 / (i + 1)), rate, auroc, rng) for i, g in enumerate(names)]
    subgroups = {
        "age_group": tuple(make_group(a, 300, rate, auroc, rng) for a in ("18-44", "45-64", "65-79", "80+")),
        "sex": (make_group("F", 720, rate, auroc, rng), withheld_group("M", rate, auroc, rng), hidden_group("")),
    }
    return ModelTask(metrics, (*groups, hidden_group(RARE)), subgroups, roc, pr, calibration)


def make_group(name: str, n: int, rate: float, auroc: float, rng: np.random.Generator) -> GroupRow:
    bias = float(rng.normal(0, 0.02))
    return GroupRow(
        name,
        n,
        int(n * rate),
        interval_of(int(n * rate) / n, 0.02),
        interval_of(rate + bias, 0.01),
        interval_of(auroc + float(rng.normal(0, 0.02)), 0.04),
        interval_of(bias, 0.021),
    )


def hidden_group(name: str) -> GroupRow:
    refused = Estimate(None, reason="fewer than 10 patients")
    return GroupRow(name, None, None, refused, refused, refused, refused)


def withheld_group(name: str, rate: float, auroc: float, rng: np.random.Generator) -> GroupRow:
    """A large group whose counts would, with the totals, tell those of a small one."""
    none = Estimate(None, reason=COMPLEMENT)
    shown = make_group(name, 700, rate, auroc, rng)
    return replace(shown, n=None, events=None, observed_rate=none, calibration_bias=none)


def make_result() -> Result:
    rng = np.random.default_rng(11)
    tasks: dict[str, dict[str, ModelTask]] = {}
    for (task, auroc), rate in zip(TASKS.items(), (0.112, 0.204, 0.131), strict=True):
        models = {m: make_entry(auroc + delta, rate, rng, 0.85) for m, delta in MODELS.items()}
        rectified = make_entry(auroc + 0.016, rate, rng, 0.98)
        bound = OracleBound(
            interval_of(0.006, 0.004), 0.004, False, "The gain lies within what exact pattern offsets could give."
        )
        models["crl-mmnar+rectifier"] = ModelTask(**{**vars(rectified), "oracle": bound})
        tasks[task] = models
    refused = Estimate(None, reason="no test patient had the outcome in one fold")
    broken = tasks["readmission"]["m3care"]
    tasks["readmission"]["m3care"] = ModelTask({**broken.metrics, "auprc": refused}, broken.patterns, broken.subgroups)
    comparisons = (
        Comparison("mortality", "auroc", "crl-mmnar", "late-fusion", interval_of(0.012, 0.007), 0.0008, 0.0048),
        Comparison("mortality", "auroc", "crl-mmnar", "gradient-boosting", interval_of(0.008, 0.011), 0.151, 0.453),
        Comparison("mortality", "auroc", "crl-mmnar", "pattern-only", interval_of(0.152, 0.03), 0.00001, 0.00009),
        Comparison("mortality", "brier", "crl-mmnar", "late-fusion", interval_of(-0.0021, 0.0018), 0.021, 0.084),
        Comparison("readmission", "auroc", "crl-mmnar", "late-fusion", interval_of(0.011, 0.014), 0.119, 0.357),
        Comparison("post_discharge_icu", "auroc", "crl-mmnar", "late-fusion", interval_of(0.013, 0.02), 0.2, 0.4),
        Comparison(
            "post_discharge_icu",
            "auroc",
            "crl-mmnar",
            "pattern-only",
            Estimate(None, reason="one class only"),
            None,
            None,
        ),
    )
    counts = {"mortality": TaskCounts(1480, 166, 1480), "readmission": TaskCounts(1302, 266, 1302)}
    counts["post_discharge_icu"] = TaskCounts(1302, 171, 1302)
    return Result(tasks, counts, comparisons, {"seed": 0, "bootstrap": 2000, "split": "by subject"})


def make_runs(dataset: PatientDataset) -> tuple[RunRecord, ...]:
    rng = np.random.default_rng(5)
    runs = []
    for name in MODELS:
        history = [
            {
                "fit": fit,
                "phase": "joint",
                "epoch": e,
                "train": {"task": 0.30 + 0.35 * 0.82**e + float(rng.normal(0, 0.003)), "reconstruction": 0.8 * 0.9**e},
                "tune": {"task": 0.335 + 0.30 * 0.84**e + 0.0012 * e + float(rng.normal(0, 0.004))},
                "seconds": 1.2,
                "lr": 1e-3,
            }
            for fit in ("final", "out-of-fold 1", "out-of-fold 2")
            for e in range(18)
        ]
        card = {
            "paper": f"A paper about {name}",
            "year": 2025,
            "missing": "embedding of the observation pattern",
            "deviations": ["focal loss replaced by cross-entropy", "targets of reconstruction are layer-normalised"],
            "needs": {"peers": 0, "series": False},
        }
        config = {"model": {"name": name, "width": 128, "dropout": 0.1}, "train": {"lr": 0.001, "epochs": 60}}
        rectifier = make_rectifier() if name == "crl-mmnar" else None
        deep = name not in ("gradient-boosting", "pattern-only")
        runs.append(RunRecord(name, card, config, history if deep else [], rectifier, 41.7, 412_655 if deep else None))
    return tuple(runs)


def make_rectifier() -> dict[str, object]:
    everything = tuple(MODALITIES)
    offsets = [
        Offset(everything, 812, 121, 0.061, -0.041, 0.163),
        Offset(everything[:4], 1711, 190, -0.012, -0.089, 0.066),
        Offset(everything[:2], 214, 17, -0.284, -0.561, -0.011),
        Offset(("cxr",), None, None, 0.7431, -0.2, 1.6),
    ]
    fitted = {
        "rule": "lattice",
        "no_effect_probability": 0.37,
        "note": "3,512 out-of-fold labels",
        "offsets": [asdict(o) for o in offsets],
    }
    return {"mortality": fitted, "readmission": {**fitted, "no_effect_probability": None, "rule": "threshold"}}


@pytest.fixture(scope="session")
def patients() -> PatientDataset:
    return make_patients()


@pytest.fixture(scope="session")
def inputs(patients: PatientDataset) -> ReportInputs:
    store = StoreFacts(
        patients.manifest, availability(patients), informativeness(patients, permutations=200, resamples=20)
    )
    versions = {"mmnar": "0.1.0", "python": "3.11.9", "numpy": "2.2.0"}
    return ReportInputs("CRL-MMNAR against its controls", store, make_result(), make_runs(patients), versions)
