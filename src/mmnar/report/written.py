"""What pages that describe a store write beside them, and how a folder that cannot be written is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmnar.errors import StoreError
from mmnar.evaluation.informative import Informativeness
from mmnar.report.inputs import StoreFacts
from mmnar.report.parts.cohort import attrition_steps


def shown_store(store: StoreFacts) -> dict[str, Any]:
    """What a page shows of a store, as plain JSON with small cells removed."""
    manifest, signal = store.manifest, store.informative
    return {
        "manifest": {k: v for k, v in manifest.items() if k not in ("files", "attrition", "recipe")},
        "attrition": attrition_steps(manifest),
        "atlas": None if store.atlas is None else asdict(store.atlas),
        "informative": None if signal is None else _shown_signal(signal),
    }


def _shown_signal(signal: Informativeness) -> dict[str, Any]:
    shown = asdict(signal)
    for task, answer in signal.tasks.items():
        if answer.conditional is not None:
            shown["tasks"][task]["conditional"]["bits"] = answer.conditional.bits
    return shown


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """A folder to write to, made where it is not there.

    Raises:
        StoreError: It cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StoreError(
            f"report in '{out}'", "room and permission to write", str(error), "choose another --out"
        ) from error
