"""From a store to a run, from runs to a result: what the command's verbs do, callable from Python.

A run is a folder. ``run.json`` is written last: a folder without it is unfinished and can be resumed.
"""

from mmnar.workflow.frames import from_frame
from mmnar.workflow.judge import evaluate_runs, export_run, scored_predictions, store_of
from mmnar.workflow.run import Run, open_run
from mmnar.workflow.train import is_finished, rectifier_for, train_run, versions

__all__ = [
    "Run",
    "evaluate_runs",
    "export_run",
    "from_frame",
    "is_finished",
    "open_run",
    "rectifier_for",
    "scored_predictions",
    "store_of",
    "train_run",
    "versions",
]
