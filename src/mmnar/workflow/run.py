"""A run: a folder with a fitted model and its test predictions, checked by hashes when it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mmnar.cohort.split import Split
from mmnar.dataset.recipe import Recipe
from mmnar.dataset.regimes import Regime
from mmnar.errors import StoreError
from mmnar.estimators.base import Predictor
from mmnar.estimators.storage import check_predictor, load_predictor
from mmnar.files import read_json, read_sealed, sha256_of
from mmnar.posthoc.base import FittedCorrection
from mmnar.posthoc.saved import restore
from mmnar.predictions import OUT_OF_FOLD, Predictions, load
from mmnar.roles import Calibration, Test
from mmnar.shown import Shown, names, sized

RUN_VERSION: Final = 5
FILES: Final = (
    "predictions/test.parquet",
    "predictions/calibration.parquet",
    "predictions/rectified.parquet",
    "recipe.json",
    "platt.json",
    "rectifier.json",
    "history.json",
    "model/predictor.json",
)
"""What a run may hold; the hash of each is in ``run.json``. The model's own record has those of the model's files."""

_AGAIN: Final = "train it again"


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A finished run.

    Args:
        folder: Where it lies.
        record: ``run.json``.
        test, rectified: Test predictions before and after the rectifier (None where there is none, or no test fold);
            both after Platt's line where the training loss is not a proper score. Without a test fold ``test`` holds
            the risks out of fold.
    """

    folder: Path
    record: dict[str, Any]
    test: Predictions[Test]
    rectified: Predictions[Test] | None

    def _facts(self) -> dict[str, str]:
        return {
            "model": self.name,
            "folder": str(self.folder),
            "scored": sized(len(self.test), len(np.unique(self.test.subject_id))) + f" ({self.judged})",
            "tasks": names(self.test.tasks),
            "rectifier": "none" if self.rectified is None else "yes",
        }

    @property
    def name(self) -> str:
        return str(self.record["name"])

    @property
    def split(self) -> Split:
        """Who played which role."""
        return Split(**self.record["config"]["split"])

    @property
    def regime(self) -> Regime:
        """What was hidden, and who played no role, before anything was fitted."""
        return Regime.from_dict(self.record.get("regime", {}))

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the method was given; () = all of its store."""
        return tuple(self.record["config"].get("modalities", ()))

    @property
    def told(self) -> list[str]:
        """Its regime in sentences; none where there is none."""
        return list(self.record.get("regime_words", []))

    @property
    def refit(self) -> dict[str, Any]:
        """On what its rectifier was refitted (``workflow.refit``); {} where it is the run's own."""
        return dict(self.record.get("refit", {}))

    @property
    def refit_told(self) -> list[str]:
        """That in a sentence; none where it is the run's own."""
        if not self.refit:
            return []
        patients, data = self.refit["patients"], self.refit["data"]
        words = f"Its rectifier was fitted on outcomes of about {patients:,} patients of another store ({data})"
        return [f"{words}; judged there, it and every run beside it leave them out."]

    @property
    def judged(self) -> str:
        """Which samples ``test`` holds, in words."""
        return "samples out of fold" if self.test.provenance.get("validation") == OUT_OF_FOLD else "test samples"

    def history(self) -> list[dict[str, Any]]:
        """One record per epoch of every fit behind the run.

        Raises:
            StoreError: It is missing or changed.
        """
        path = whole(self.folder, self.record, "history.json")
        records: list[dict[str, Any]] = read_json(path, f"run '{self.folder}'", _AGAIN)
        return records

    def predictor(self) -> Predictor:
        """The fitted model.

        Raises:
            StoreError: It is missing or changed.
        """
        return load_predictor(whole(self.folder, self.record, "model/predictor.json").parent)

    def check(self) -> None:
        """Look at every file, also those that nobody asked for yet.

        Raises:
            StoreError: One is missing or changed.
        """
        for name in self.record["files"]:
            whole(self.folder, self.record, name)
        check_predictor(self.folder / "model")

    def recipe(self) -> Recipe:
        """How the run's inputs are made of records.

        Raises:
            StoreError: The run has none, or it is missing, changed or of another version.
        """
        if "recipe.json" not in self.record["files"]:
            raise StoreError(
                f"run '{self.folder}'",
                "the recipe of its inputs (recipe.json)",
                "none: its store is of another version, or not of `mmnar prepare` alone",
                "prepare the store with this version and train again",
            )
        what = f"recipe of run '{self.folder}'"
        return Recipe.from_dict(read_json(whole(self.folder, self.record, "recipe.json"), what, _AGAIN), what)

    def calibration(self) -> Predictions[Calibration] | None:
        """Risks out of fold of the patients learned from; None where there are none.

        Raises:
            StoreError: They are missing or changed.
        """
        name = "predictions/calibration.parquet"
        return load(whole(self.folder, self.record, name)) if name in self.record["files"] else None

    def platt(self) -> FittedCorrection | None:
        """The line that is part of the model; None where its training loss was a proper score.

        Raises:
            StoreError: It is missing or changed.
        """
        return self._correction("platt.json")

    def rectifier(self) -> FittedCorrection | None:
        """The fitted rectifier; None where the run has none.

        Raises:
            StoreError: It is missing or changed.
        """
        return self._correction("rectifier.json")

    def _correction(self, name: str) -> FittedCorrection | None:
        if name not in self.record["files"]:
            return None
        return restore(read_json(whole(self.folder, self.record, name), f"run '{self.folder}'", _AGAIN))


def open_run(folder: str | Path) -> Run:
    """A finished run.

    Raises:
        StoreError: Not a run, unfinished, of another version, or damaged; names the file.
        OSError: A file may not be read.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        begun = (folder / "identity.json").is_file()
        raise StoreError(
            f"run '{folder}'",
            "a finished run (run.json)",
            "an unfinished one" if begun else "none",
            "continue it with `mmnar train … --resume`" if begun else "run `mmnar train` first",
        )
    record = read_sealed(path, f"run '{folder}'", _AGAIN, ("run_version", RUN_VERSION))
    rectified = "predictions/rectified.parquet"
    return Run(
        folder,
        record,
        load(whole(folder, record, "predictions/test.parquet")),
        load(whole(folder, record, rectified)) if rectified in record["files"] else None,
    )


def whole(folder: Path, record: dict[str, Any], name: str) -> Path:
    """Path of a run's file that is what ``train`` wrote.

    Raises:
        StoreError: It is missing or changed.
    """
    path = folder / name
    if not path.is_file() or sha256_of(path) != record["files"].get(name):
        raise StoreError(f"run '{folder}', {name}", "the file that train wrote", "missing or changed", _AGAIN)
    return path
