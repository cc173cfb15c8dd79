"""PhysioNet/CinC Challenge 2012: time and memory of prepare, the challenge's own split, and boosting from outside.

    python benchmarks/physionet2012.py --root FOLDER --work FOLDER --json physionet2012.json
    python benchmarks/physionet2012.py --smallest      # 400 invented stays, two folds, to see that it runs

Fitted on set a, scored on set b; ``studies/open_large.yaml`` cross-validates every method. Runs are folders under
--work; finished ones are not repeated. ``untuned`` is scikit-learn's HistGradientBoosting with its defaults on the same
window summaries, outside the package's own estimators: the least any method must reach.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from mmnar.cli.prepare import physionet2012
from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.dataset.table import TableView
from mmnar.estimators.registry import is_trained
from mmnar.evaluation.evaluate import evaluate
from mmnar.report.terminal import result_text
from mmnar.workflow import open_run, scored_predictions, train_run

METHOD = "crl-mmnar"
CONTROLS = ("boosting-pattern", "logistic-pattern", "zero-fill", "pattern-only")
BAR_SECONDS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("overrides", nargs="*", help="overrides for every run, e.g. fits=3")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work = arguments.work or Path(tempfile.mkdtemp())
    overrides, folds = tuple(arguments.overrides), 5
    names: tuple[str, ...] = (METHOD, *CONTROLS)
    root: Path | None = arguments.root
    record: dict[str, Any] = {}
    if arguments.smallest:
        root = invented_sets(work / "raw", stays=200)
        overrides, folds, names = ("train.min_steps=20", "fits=2"), 2, CONTROLS
    elif root is None:
        print("skipped: no --root with the challenge's sets")
        return
    store = work / "store"
    if not (store / "manifest.json").is_file():
        started = time.perf_counter()
        physionet2012(root=root, out=store)
        record["prepare_seconds"] = round(time.perf_counter() - started, 1)
        record["prepare_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"prepare: {record['prepare_seconds']} s (bar {BAR_SECONDS}), {record['prepare_peak_mib']} MiB")
    record["untuned"] = untuned(open_store(store), folds)
    print(json.dumps(record["untuned"]))
    scored = [p for name in names for p in set_wise(store, name, work, telling(name, overrides))]
    result = evaluate(*scored, controls=list(CONTROLS), resamples=100 if arguments.smallest else 1000)
    print("fitted on set a, scored on set b", result_text(result), sep="\n")
    if arguments.json:
        record["data"] = open_store(store).fingerprint
        record["a_to_b"] = {k: v for k, v in result.to_dict().items() if k in ("tasks", "counts", "comparisons")}
        arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def telling(name: str, overrides: tuple[str, ...]) -> tuple[str, ...]:
    """Without settings of the training loop where a method has none."""
    return tuple(word for word in overrides if is_trained(name) or not word.startswith("train."))


def set_wise(store: Path, name: str, folder: Path, overrides: tuple[str, ...]) -> list[Any]:
    """Test predictions of set b, fitted on set a."""
    out = folder / f"{name}-set-b"
    if (out / "run.json").is_file():
        return scored_predictions(open_run(out))
    run = train_run(store, name, out, (*overrides, "split.by=set", "split.held_out=b"), resume=True)
    print(f"  {name} a → b: {run.record['seconds']} s", flush=True)
    return scored_predictions(run)


def untuned(data: PatientDataset, folds: int) -> dict[str, float]:
    """AUROC and AUPRC of boosting with default settings: mean, lowest and highest fold, and set a → set b."""
    splits = [Split(tune=0.0, test=1 / folds, fold=f, folds=folds) for f in range(folds)]
    crossed = np.array([_untuned(data, split) for split in splits])
    held = _untuned(data, Split(tune=0.0, test=0.0, by="set", held_out=("b",)))
    found = {"cv": crossed.mean(0), "lowest": crossed.min(0), "highest": crossed.max(0), "a_to_b": held}
    return {f"{m}_{k}": round(float(v[i]), 4) for k, v in found.items() for i, m in enumerate(("auroc", "auprc"))}


def _untuned(data: PatientDataset, split: Split) -> tuple[float, float]:
    train, test = data.fold(split, "train"), data.fold(split, "test")
    view = TableView.fit(train)
    x, x_test = (
        np.hstack([view.columns(fold, m) for m in range(len(data.schema.modalities))]) for fold in (train, test)
    )
    kept = ~np.isnan(x).all(axis=0)  # the learner cannot bin a column without a value
    model = HistGradientBoostingClassifier(random_state=0).fit(x[:, kept], train.labels[:, 0])
    risk = model.predict_proba(x_test[:, kept])[:, 1]
    return float(roc_auc_score(test.labels[:, 0], risk)), float(average_precision_score(test.labels[:, 0], risk))


def invented_sets(root: Path, stays: int, seed: int = 0) -> Path:
    """Sets a and b of invented stays in the challenge's own format: sicker stays die more and have blood gases more."""
    rng = np.random.default_rng(seed)
    for first, letter in ((100_000, "a"), (200_000, "b")):
        folder = root / f"set-{letter}"
        folder.mkdir(parents=True, exist_ok=True)
        outcomes = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
        for record in range(first, first + stays):
            illness = rng.normal()
            outcomes.append(f"{record},-1,-1,9,-1,{int(rng.random() < 1 / (1 + np.exp(1 - 1.5 * illness)))}")
            (folder / f"{record}.txt").write_text(_invented(rng, record, illness), encoding="utf-8")
        (root / f"Outcomes-{letter}.txt").write_text("\n".join(outcomes) + "\n", encoding="utf-8")
    return root


def _invented(rng: np.random.Generator, record: int, illness: float) -> str:
    lines = ["Time,Parameter,Value", f"00:00,RecordID,{record}", f"00:00,Age,{rng.integers(18, 90)}"]
    lines += [f"00:00,Gender,{rng.integers(0, 2)}", f"00:00,ICUType,{rng.integers(1, 5)}", "00:00,Height,-1"]
    for hour in range(0, 48, 4):
        lines.append(f"{hour:02d}:{rng.integers(0, 60):02d},HR,{80 + 10 * illness + rng.normal(0, 5):.0f}")
        if illness + rng.normal() > 0:
            lines.append(f"{hour:02d}:30,pH,{7.4 - 0.05 * illness + rng.normal(0, 0.02):.2f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
