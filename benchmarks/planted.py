"""What can each method find? AUROC on planted populations beside that of the exact risks.

    python benchmarks/planted.py [--methods zero-fill,smil] [--mechanisms pattern,recover] [--json planted.json]
    python benchmarks/planted.py --methods mt model.fusion_layer=1
    python benchmarks/planted.py --smallest

Every registered method that accepts the data, with its defaults, on each mechanism of ``mmnar.simulation.planted``; a
row per value of ``append_pattern`` where the method has it. Fitted on one sample, scored on fresh patients. AUROC is
the expected one given the exact risks, so no label's luck is in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from population import expected_auroc

from mmnar.cohort.split import Split
from mmnar.errors import ConfigError, nearest
from mmnar.estimators.base import Estimator
from mmnar.estimators.registry import TABULAR, estimator
from mmnar.models.registry import MODELS
from mmnar.simulation.planted import MECHANISMS, planted

FRESH = 1
"""Seed of the patients who are scored; those who are fitted have seed 0."""


def versions(name: str, overrides: tuple[str, ...]) -> dict[str, Estimator]:
    """The method without and with the pattern appended, or once if it has no such choice."""
    overrides = overrides if name in MODELS else ()
    recipe = estimator(name, *overrides)
    settings: Any = getattr(recipe, "model", recipe)
    if "append_pattern" not in {f.name for f in dataclasses.fields(settings)}:
        return {"": recipe}
    return {which: estimator(name, f"model.append_pattern={which}", *overrides) for which in ("false", "true")}


def score(recipe: Estimator, mechanism: str, patients: int, fresh: int) -> tuple[float, float, float]:
    """AUROC of the method, of the exact risks, CPU seconds of the fit."""
    fitted_on, scored = planted(mechanism, patients), planted(mechanism, fresh, seed=FRESH)
    split = Split(tune=0.2, test=0.0)
    begun = time.process_time()
    predictor = recipe.fit(fitted_on.fold(split, "train"), fitted_on.fold(split, "tune"))
    seconds = time.process_time() - begun
    risk = predictor.predict_proba(scored.fold(Split.external(), "test"))[:, 0]
    assert scored.bayes is not None
    bayes = scored.bayes[:, 0]
    return expected_auroc(risk, bayes), expected_auroc(bayes, bayes), seconds


def chosen(asked: str, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The comma-separated names, all of them by default."""
    names = tuple(asked.split(",")) if asked else known
    for name in names:
        if name not in known:
            raise ConfigError(f"{what} '{name}'", "a known name", "an unknown one", nearest(name, known))
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="", help="names, separated by commas")
    parser.add_argument("--mechanisms", default="", help="names, separated by commas")
    parser.add_argument("--patients", type=int, default=4000, help="who are fitted")
    parser.add_argument("--fresh", type=int, default=10_000, help="who are scored")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE of every deep method chosen")
    parser.add_argument("--smallest", action="store_true", help="two mechanisms, 150 patients, one epoch")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    overrides = tuple(arguments.overrides)
    if arguments.smallest:
        arguments.patients = arguments.fresh = 150
        arguments.mechanisms = arguments.mechanisms or "pattern,severity"
        overrides += ("train.min_steps=0", "train.max_epochs=1", "model.width=32")
    mechanisms = chosen(arguments.mechanisms, tuple(MECHANISMS), "mechanism")
    schema = planted(mechanisms[0], 10).schema
    figures: list[dict[str, Any]] = []
    print(f"AUROC, {arguments.patients} patients fitted, {arguments.fresh} fresh ones scored")
    print(f"{'method':22} {'δ appended':11}" + "".join(f"{m:>10}" for m in mechanisms) + f"{'CPU-s':>9}", flush=True)
    for name in chosen(arguments.methods, (*MODELS, *TABULAR), "method"):
        refusal = estimator(name).refuses(schema)
        if refusal:
            print(f"{name:22} {refusal}", flush=True)
            continue
        for appended, recipe in versions(name, overrides).items():
            row = {m: score(recipe, m, arguments.patients, arguments.fresh) for m in mechanisms}
            cells = "".join(f"{auroc:10.3f}" for auroc, _, _ in row.values())
            print(f"{name:22} {appended:11}{cells}{sum(s for _, _, s in row.values()):9.1f}", flush=True)
            figures += [
                {"method": name, "append_pattern": appended, "mechanism": m, "auroc": a, "bayes": b, "seconds": s}
                for m, (a, b, s) in row.items()
            ]
    exact = [planted(m, arguments.fresh, seed=FRESH).bayes for m in mechanisms]
    print(f"{'exact risks':34}" + "".join(f"{expected_auroc(b[:, 0], b[:, 0]):10.3f}" for b in exact if b is not None))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
