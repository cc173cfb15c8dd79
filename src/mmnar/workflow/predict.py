"""Risks of patients whose outcome is not known: records by the run's own recipe, scored by the run's model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl

from mmnar.dataset.recipe import Recipe
from mmnar.errors import ConfigError, SourceError
from mmnar.files import write_whole
from mmnar.parquet import save
from mmnar.sources.table.spec import TableSpec
from mmnar.workflow import doors
from mmnar.workflow.doors import Records
from mmnar.workflow.run import Run
from mmnar.workflow.scoring import Loaded, Scored, load

_BESIDE: Final = {"mimic-iv": ("notes", "cxr", "embeddings"), "carebench": ("cxr",), "medfuse": ("cxr",)}
"""Door → what may be given beside its records. Notes tell CareBench who is documented: hindsight."""


def predict(
    run: Run | Loaded,
    *,
    root: Path | None = None,
    events: Path | None = None,
    table: Path | None = None,
    at: Path | None = None,
    notes: Path | None = None,
    cxr: Path | None = None,
    embeddings: Path | None = None,
    notes_encoder: str | None = None,
    work: Path | None = None,
    told: Callable[[int], None] | None = None,
) -> Scored:
    """Score records whose outcome is not known; no label is read, and rules of hindsight are not applied.

    ``frame``: ``subject_id, hadm_id, stay_id, prediction_time``, and of a table ``subject`` and ``sample`` as written
    there; of each task ``<task>.risk``, ``<task>.low`` and ``<task>.high`` (least and largest of the risk and of those
    of the run's fits, where there are several), ``<task>.rectified`` where the run has a rectifier, all null where the
    door does not ask the task at that moment; ``pattern`` and ``absent`` (names, separated by commas);
    ``training_patients``: how many with the same pattern the run learned from, null below ten.

    Args:
        run: A run, or a loaded one, of which nothing is read again.
        root: Raw records of the run's door.
        events: A MEDS data set, of a run on one.
        table: A file with the columns of the run's table.
        at: Parquet file of ``subject_id, prediction_time``, in place of the door's own moments.
        notes, cxr, embeddings: Beside ``root``, of a run on MIMIC-IV; a modality whose folder is not given is absent.
        notes_encoder: Where the notes' encoder of a run lies here, if not where it lay then.
        work: Folder for a temporary one, which may grow as large as the records; default: the system's.
        told: Called with the number of notes encoded so far.

    Raises:
        ConfigError: Not one of ``root``, ``events`` and ``table``, or not the run's kind.
        SourceError, SchemaError: The records cannot be read as the run's were; names what differs.
        StoreError: The run has no recipe, or one of another version.
        RequirementError: The notes' encoder is not here.
    """
    loaded = run if isinstance(run, Loaded) else load(run, notes_encoder)
    recipe = loaded.recipe
    with tempfile.TemporaryDirectory(prefix=".tmp-mmnar-", dir=work) as folder:
        place = Path(folder)
        beside = {"notes": notes, "cxr": cxr, "embeddings": embeddings}
        records, times = _records(recipe, place, {"--root": root, "--events": events, "--table": table}, at, beside)
        records = records.following(recipe, place, loaded.encoder_here)
        extract = records.extract
        cohort = records.cohort(extract, False) if times is None else doors.asked_at(extract, recipe, times)
        return loaded.score(records, cohort, place, told)


def write_risks(scored: Scored, out: Path) -> None:
    """One Parquet file, whole or not at all.

    Raises:
        OSError: It cannot be written there.
    """
    write_whole(out, partial(save, scored.frame))


def _records(
    recipe: Recipe,
    work: Path,
    given: Mapping[str, Path | None],
    at: Path | None,
    beside: Mapping[str, Path | None],
) -> tuple[Records, pl.DataFrame | None]:
    """What was read, and moments of the user's own."""
    wanted = {"table": "--table", "meds": "--events"}.get(recipe.door, "--root")
    takes = _BESIDE.get(recipe.door, ())
    extra = [f"--{name}" for name, path in beside.items() if path is not None and name not in takes]
    if extra:
        raise ConfigError(", ".join(extra), "a run on MIMIC-IV", f"one on '{recipe.door}'", "leave them out")
    place = given[wanted]
    if place is None or sum(path is not None for path in given.values()) != 1:
        raise ConfigError(
            f"records of a run on '{recipe.door}'",
            f"{wanted} alone",
            ", ".join(name for name, path in given.items() if path is not None) or "none",
            f"add {wanted}" if place is None else f"give {wanted} alone",
        )
    times, zoned = (None, False) if at is None else _moments(at)
    if zoned and recipe.door != "meds":
        fact = "times with one"
        raise SourceError("moments (--at)", "times without a zone, as the records'", fact, "write the records' clock")
    if recipe.door == "table":
        if times is not None:
            raise ConfigError("--at", "a door without its own moments", "a table, whose rows have them", "leave it out")
        spec = TableSpec.from_dict(recipe.options["spec"])
        spec = TableSpec.from_dict({**spec.to_dict(), "files": [place.name]})
        read, _ = doors.table(spec, place.parent, like=recipe, answered=False)
    elif recipe.door == "meds":
        if times is None:
            raise ConfigError("--at", "moments to ask at: a MEDS data set has none", "none", "add --at TIMES.parquet")
        read, times = doors.meds_at(place, work / "events", recipe, times, zoned), None
    else:
        read = doors.again(recipe, place, work / "events", **beside)
    return read, times


def _moments(path: Path) -> tuple[pl.DataFrame, bool]:
    """Moments, and whether they name a zone."""
    from mmnar import parquet
    from mmnar.cohort.times import check_moments, has_zone

    if not path.is_file():
        raise SourceError(f"moments '{path.name}'", "a Parquet file", "none", "check --at")
    try:
        times = parquet.read(path)
    except parquet.UnreadableError as error:
        fact = parquet.kind_of(error)
        raise SourceError(f"moments '{path.name}'", "a Parquet file", fact, "write it again") from None
    return check_moments(times), has_zone(times)
