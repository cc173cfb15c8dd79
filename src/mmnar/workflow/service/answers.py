"""Risks of one request, as plain values."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmnar.errors import ConfigError
from mmnar.workflow.predict import predict
from mmnar.workflow.run import Run
from mmnar.workflow.service.requests import event_files, table_file

SPREAD: Final = "least and largest risk of the run's fits: their disagreement, no confidence interval"
NOT_ASKED: Final = "the task is not asked of this patient at this time"
DOORS: Final = ("table", "meds")
_OURS: Final = ("subject_id", "prediction_time", "subject", "sample")


@dataclass(frozen=True)
class Scorer:
    """Answers by one run.

    Args:
        run: On a table or a MEDS data set.

    Raises:
        ConfigError: A run of another door: its records are no single JSON body.
    """

    run: Run

    def __post_init__(self) -> None:
        door = self.run.recipe().door
        if door not in DOORS:
            raise ConfigError(
                f"run '{self.run.folder.name}'", "one on a table or MEDS", f"'{door}'", "use mmnar predict"
            )

    def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """
        Raises:
            SourceError, SchemaError: The records cannot be read as the run's were.
        """
        with tempfile.TemporaryDirectory(prefix=".tmp-mmnar-") as folder:
            place, later = Path(folder), None
            if self.run.recipe().door == "table":
                scored = predict(self.run, table=table_file(body, place))
            else:
                events, at, later = event_files(body, place)
                scored = predict(self.run, events=events, at=at)
        tasks = [name.removesuffix(".risk") for name in scored.frame.columns if name.endswith(".risk")]
        frame = scored.frame if later is None else scored.frame.sort("subject_id", "prediction_time")
        patients = [_patient(row, tasks) for row in frame.iter_rows(named=True)]
        for patient, count in zip(patients, later or (), strict=later is not None):
            patient["ignored_later_events"] = count
        return {"run": self.run.folder.name, "patients": patients, "notes": list(scored.warnings), "spread_is": SPREAD}


def _patient(row: Mapping[str, Any], tasks: list[str]) -> dict[str, Any]:
    shown = {name: row[name] for name in _OURS if name in row}
    moment = shown.get("prediction_time")
    known = row["training_patients"] is not None
    return {
        **shown,
        "prediction_time": None if moment is None else moment.isoformat(),
        "tasks": {task: _task(row, task) for task in tasks},
        "pattern": row["pattern"],
        "absent": row["absent"].split(",") if row["absent"] else [],
        "training_patients": row["training_patients"],
        "pattern_is": "known" if known else "of fewer than 10 training patients, or of none",
    }


def _task(row: Mapping[str, Any], task: str) -> dict[str, Any]:
    risk = row[f"{task}.risk"]
    if risk is None or not math.isfinite(risk):
        return {"refused": NOT_ASKED}
    low, high = row.get(f"{task}.low"), row.get(f"{task}.high")
    return {
        "risk": risk,
        "rectified": row.get(f"{task}.rectified"),
        "spread": None if low is None else [low, high],
    }
