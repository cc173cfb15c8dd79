"""Whether pre-training the encoder of films pays: MedFuse on 200 patients with a film, its encoder from scratch (RI),
pre-trained on 2,000 films of others (PT), or on the same films with their labels dealt out anew, which teach nothing.

    python benchmarks/pretraining.py [--smallest] [--paired 200] [--films 2000] [--seeds 3]

Simulated records of CareBench's world, films of 32 x 32, the smallest network, 25 phenotypes, asked of stays with a
film alone. A seed draws its own patients to fit on (four in five to train, one to tune), the order and the weights; all
seeds are scored on the same other patients. What is compared is said before: each patient's mean log loss over the 25
phenotypes, averaged over seeds, PT minus RI, by sign flips. Bar: PT is ahead, p < .05; with labels dealt out anew it is
not. The exact risks of the world stand below.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from mmnar.cohort.split import Split
from mmnar.dataset.store import Fold, PatientDataset, open_store
from mmnar.estimators.registry import estimator
from mmnar.evaluation.compare import sign_flip_p
from mmnar.evaluation.metrics import auroc, log_terms
from mmnar.roles import subject_keys
from mmnar.simulation.carebench.outcomes import PHENOTYPES
from mmnar.simulation.carebench.release import write_carebench
from mmnar.simulation.mimic_iv.release import CXR, IV, TRUTH
from mmnar.sources.mimic_iv.cxr import METADATA
from mmnar.sources.mimic_iv.findings import labelled_films
from mmnar.sources.reading.raw import DataRoot
from mmnar.workflow import doors
from mmnar.workflow.pretrain import pretrain_images

SIDE, SPLIT = 32, Split(test=0.5)
TASKS = [p.name for p in PHENOTYPES]
LABELS = "mimic-cxr-2.0.0-chexpert"
METHOD = ("model.image.backbone=tiny", "model.series.encoder=lstm", "model.series.step=4", "train.batch_size=32")
ENCODER = ("model.image.backbone=tiny", "train.batch_size=32")
NOTHING = "PT, labels dealt out anew"
Risks = NDArray[np.float64]


def store_of(tree: Path, work: Path) -> Path:
    """Stays with a film, and their exact risks."""
    records = doors.carebench(tree / IV, work / "events", cxr=tree / CXR, side=SIDE, matched=True)
    extract = replace(records.extract, truth=pl.read_parquet(tree / TRUTH))
    doors.write_records(replace(records, extract=extract), work / "store")
    return work / "store"


def films_of_others(tree: Path, store: Path, most: int, out: Path, dealt: bool) -> int:
    """A folder with so many films of people outside the store, at most; how many there are.

    Args:
        dealt: Each study has the labels of another one.
    """
    found = labelled_films(DataRoot(tree / CXR), "chexpert").frame
    others = found.filter(~pl.col("subject_id").is_in(np.unique(open_store(store).subject_id)))
    chosen = others.with_columns(by=pl.Series(subject_keys(others["subject_id"].to_numpy()))).sort("by", "path")[:most]
    out.mkdir()
    (out / "files").symlink_to(tree / CXR / "files")
    metadata = pl.read_csv(tree / CXR / f"{METADATA}.csv.gz", infer_schema=False)
    kept = chosen["path"].str.extract(r"([^/]+)\.jpg$", 1)
    metadata.filter(pl.col("dicom_id").is_in(kept.implode())).write_csv(out / f"{METADATA}.csv")
    labels = pl.read_csv(tree / CXR / f"{LABELS}.csv.gz", infer_schema=False)
    labels = labels.filter(pl.col("study_id").cast(pl.Int64).is_in(chosen["study_id"].unique().implode()))
    keys = ["subject_id", "study_id"]
    if dealt:
        labels = labels.select(keys).hstack(labels.drop(keys).sample(fraction=1, shuffle=True, seed=1))
    labels.write_csv(out / f"{LABELS}.csv")
    return chosen.height


def drawn(data: PatientDataset, role: str, n: int, seed: int) -> Fold[Any]:
    """So many patients of a fold, a stay of each."""
    fold: Fold[Any] = data.fold(SPLIT, role).asking(TASKS)  # type: ignore[call-overload]
    _, first = np.unique(fold.subject_id, return_index=True)
    chosen = np.random.default_rng([seed, n]).choice(first, n, replace=False)
    return replace(fold, rows=fold.rows[np.sort(chosen)])


def risks(data: PatientDataset, weights: Path | None, paired: int, seed: int, quick: tuple[str, ...]) -> Risks:
    """(n, 25) of the test patients."""
    given = (f"model.image.weights={weights}",) if weights else ()
    recipe = estimator("medfuse", *METHOD, *quick, *given)
    train, tune = (drawn(data, role, n, seed) for role, n in (("train", paired * 4 // 5), ("tune", paired // 5)))
    fitted = recipe.fit(train, tune, seed=seed)
    test = data.fold(SPLIT, "test").asking(TASKS)
    known = [TASKS.index(task) for task in fitted.schema.task_names]
    out = np.full((len(test), len(TASKS)), np.nan)
    out[:, known] = fitted.predict_proba(test.asking(fitted.schema.task_names))
    return out


def table(test: Fold[Any], by_arm: Mapping[str, list[Risks]]) -> dict[str, Risks]:
    """Print AUROC by what tells the outcome; (fits, patients) mean log loss, by arm."""
    y = test.labels.astype(float)
    kinds = {kind: [k for k, p in enumerate(PHENOTYPES) if p.told_by == kind] for kind in ("film", "both", "series")}
    _, patient = np.unique(test.subject_id, return_inverse=True)
    losses = {}
    print(f"{'':28}{'log loss':>9}" + "".join(f"{'AUROC ' + kind:>14}" for kind in kinds))
    for name, fits in by_arm.items():
        by_stay = [log_terms(y, p).mean(1) for p in fits]
        losses[name] = np.array([np.bincount(patient, of) for of in by_stay]) / np.bincount(patient)
        told = (np.mean([auroc(y[:, k], p[:, k]) for p in fits for k in of]) for of in kinds.values())
        print(f"{name:28}{losses[name].mean():9.4f}" + "".join(f"{value:14.3f}" for value in told))
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--paired", type=int, default=200)
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.process_time()
    patients, paired, films, seeds = (
        (240, 40, 60, 1) if asked.smallest else (4000, asked.paired, asked.films, asked.seeds)
    )
    quick = ("train.max_epochs=1", "train.min_steps=0") if asked.smallest else ()
    with tempfile.TemporaryDirectory(prefix="mmnar-pretraining-") as name:
        work = Path(name)
        write_carebench(work / "tree", patients, seed=1, images=True, side=SIDE)
        store = store_of(work / "tree", work)
        weights: dict[str, Path | None] = {"RI": None}
        for number, arm in enumerate(("PT", NOTHING)):
            folder = work / f"films-{number}"
            count = films_of_others(work / "tree", store, films, folder, dealt=arm == NOTHING)
            made = pretrain_images(
                folder,
                store,
                work / f"{number}.safetensors",
                (*ENCODER, *quick, f"split.test={SPLIT.test}"),
                outside=True,
            )
            weights[arm] = made.file
            print(f"{arm}: {count:,} films of others, tune loss {made.tune_loss:.4f}", flush=True)
        data = open_store(store)
        test = data.fold(SPLIT, "test").asking(TASKS)
        print(
            f"{paired} patients with a film, {len(np.unique(test.subject_id))} test patients, {seeds} seeds", flush=True
        )
        by_arm: dict[str, list[Risks]] = {arm: [] for arm in weights}
        for seed in range(seeds):
            for arm, file in weights.items():
                by_arm[arm].append(risks(data, file, paired, seed, quick))
                print(f"  {arm}, seed {seed}: {time.process_time() - begun:.0f} CPU s since the start", flush=True)
        assert test.dataset.bayes is not None
        losses = table(test, {**by_arm, "exact risks": [test.dataset.bayes[test.rows]]})
    for arm in ("PT", NOTHING):
        by_seed = losses[arm] - losses["RI"]
        difference = by_seed.mean(0)
        p = sign_flip_p(difference, 10_000, 0)
        seeds_alone = ", ".join(f"{of:+.4f}" for of in by_seed.mean(1))
        print(f"{arm} minus RI: {difference.mean():+.4f}, p = {p:.4f}; by seed {seeds_alone}")
        if not asked.smallest:
            assert (difference.mean() < 0 and p < 0.05) == (arm == "PT")


if __name__ == "__main__":
    main()
