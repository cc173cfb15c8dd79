"""Five-fold results on eICU records, every model, both tasks, with intervals; writes the README's table.

    python benchmarks/eicu_five_fold.py --root EICU_FOLDER --work FOLDER --out results/eicu-demo.json
    python benchmarks/eicu_five_fold.py --smallest      # two folds of a simulated store, to see that it runs

Runs are folders under --work; finished ones are not repeated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from mmnar.cli.prepare import eicu, synthetic
from mmnar.dataset.store import open_store
from mmnar.evaluation.evaluate import evaluate
from mmnar.evaluation.result import Result
from mmnar.predictions import Predictions, concat
from mmnar.report.text import result_text
from mmnar.roles import Test
from mmnar.workflow import open_run, scored_predictions, train_run

FIVE = ("crl-mmnar", "zero-fill", "pattern-only", "logistic-pattern", "boosting-pattern")
METRICS = ("auroc", "auprc", "brier", "log_loss", "ece")


def cross_validated(
    store: Path, name: str, folder: Path, folds: int, words: tuple[str, ...]
) -> list[Predictions[Test]]:
    """Base and rectified test predictions of every subject, each scored by a fit that never saw it."""
    per_fold = []
    for fold in range(folds):
        out = folder / f"{name}-fold{fold}"
        if (out / "run.json").is_file():
            run = open_run(out)
        else:
            run = train_run(store, name, out, (*words, f"split.folds={folds}", f"split.fold={fold}"), resume=True)
        per_fold.append(scored_predictions(run))
        print(f"  {name} fold {fold}: {run.record['seconds']} s", flush=True)
    return [concat(list(parts)) for parts in zip(*per_fold, strict=True)]


def table(result: Result) -> str:
    """Markdown, one row per task and model."""
    lines = ["| task | model | AUROC | AUPRC | Brier |", "|---|---|---|---|---|"]
    for task, models in result.tasks.items():
        for name, entry in models.items():
            cells = [entry.metrics[m] for m in ("auroc", "auprc", "brier")]
            shown = [f"{c.value:.3f} ({c.low:.3f} to {c.high:.3f})" if c.value is not None else c.reason for c in cells]
            lines.append(f"| {task} | {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("words", nargs="*", help="overrides for every run, e.g. rectifier.folds=3")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work = arguments.work or Path(tempfile.mkdtemp())
    store, folds, words = work / "store", 5, tuple(arguments.words)
    if arguments.smallest:
        folds, words = 2, ("train.min_steps=20", "rectifier.folds=2")
        synthetic(out=store, patients=600)
    elif not (store / "manifest.json").is_file():
        started = time.perf_counter()
        eicu(root=arguments.root, out=store)
        print(f"prepare: {time.perf_counter() - started:.1f} s (bar 60)")
    names = [n for n in FIVE if not (arguments.smallest and n == "crl-mmnar")]
    scored = [p for name in names for p in cross_validated(store, name, work, folds, words)]
    controls = [n for n in names if n != "crl-mmnar"]
    result = evaluate(*scored, controls=controls, resamples=100 if arguments.smallest else 1000)
    print(result_text(result))
    print(table(result))
    if arguments.out:
        slim = {k: v for k, v in result.to_dict().items() if k in ("tasks", "counts", "comparisons")}
        slim["data"] = open_store(store).fingerprint
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(slim, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
