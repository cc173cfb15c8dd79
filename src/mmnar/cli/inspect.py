"""Verbs that look and tell: describe, shift, stress, monitor, audit, doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from mmnar.cli.apps import app, writes_out


@app.command
@writes_out
def describe(store: Path, *, out: Path | None = None) -> None:
    """How many patients have which modalities, and does it matter? Cohort, attrition, availability over time and by
    unit, outcome by pattern, and whether missingness is informative.

    Args:
        store: A prepared store.
        out: Also write describe.html, one offline file, and describe.json there.
    """
    from mmnar.report.atlas import describe as described

    text, page = described(store, out)
    print(text)
    if page is not None:
        print(f"\natlas: {page}")


@app.command
@writes_out
def shift(first: Path, second: Path, *, run: Path | None = None, out: Path | None = None) -> None:
    """Do clinicians order otherwise in another store? Who has which modality, and whether like patients are chosen
    alike; no outcome is looked at.

    Args:
        first: The store that a model learned from.
        second: Another of the same modalities: another hospital, a later year.
        run: Also say how many samples of the second have a pattern that few of this run's training patients had.
        out: Also write shift.html, one offline file, and shift.json there.
    """
    from mmnar.report.shift import compare_stores

    text, page = compare_stores(first, second, run, out)
    print(text)
    if page is not None:
        print(f"\npage: {page}")


@app.command
@writes_out
def stress(
    run: Path,
    *,
    modality: tuple[str, ...] = (),
    share: tuple[float, ...] = (),
    which: Literal["random", "severity", "law"] = "random",
    by: str = "",
    first: tuple[str, ...] = ("highest",),
    law: str = "",
    store: Path | None = None,
    out: Path | None = None,
) -> None:
    """What does a run keep as modalities go missing? Its risks again, with each hidden from more and more of its test
    patients.

    Args:
        run: A run with a test fold.
        modality: Which are hidden, one at a time; all that some test patients lack where none is named.
        share: Of the patients who have it; 0.2 0.4 0.6 0.8 where none is named.
        which: Who loses it first: anybody, by the severity of --by, or whom another site (--law) leaves without it.
        by: Severity: a measurement MODALITY.FEATURE, or an attribute. Law: an attribute that it tells apart.
        first: Severity: highest or lowest of a measurement; of an attribute, its values in order.
        law: Path of another store, or ATTRIBUTE=VALUE.
        store: Where the run's store lies now, if it has moved since.
        out: Also write stress.html, one offline file, and stress.json there.
    """
    from mmnar.config import HideConfig
    from mmnar.report.stress import stress_text, write_stress
    from mmnar.workflow import open_run
    from mmnar.workflow.stress import SHARES
    from mmnar.workflow.stress import stress as stressed

    how = HideConfig(which=which, by=by, first=first, law=law)
    found = stressed(open_run(run), modalities=modality, shares=share or SHARES, how=how, store=store)
    print(stress_text(found))
    if out is not None:
        print(f"\npage: {write_stress(found, out)}")


@app.command
@writes_out
def monitor(
    log: Path,
    *,
    run: Path | None = None,
    labels: Path | None = None,
    every: Literal["week", "month", "quarter"] = "month",
    out: Path | None = None,
) -> None:
    """Is a served run still asked about patients like those that it learned from? From the audit log alone: who has
    which modality, patterns, risks and refusals, period by period.

    Args:
        log: What mmnar serve wrote (--log).
        run: The run that was served, whose patients the answers are held against; without it nothing is judged.
        labels: Table of outcomes that are known by now: columns subject_id or subject, sample or prediction_time, as
            the service answered them, and one of 0 and 1 for each task. The log's key must lie beside the log.
        every: Length of a period, by the calendar. Choose it before looking.
        out: Also write monitor.html, one offline file, and monitor.json there.
    """
    from mmnar.report.monitor import monitor_text, write_monitor
    from mmnar.workflow import open_run
    from mmnar.workflow.monitor import monitor as monitored

    found = monitored(log, None if run is None else open_run(run), labels, every)
    print(monitor_text(found))
    if out is not None:
        print(f"\npage: {write_monitor(found, out)}")


@app.command
def audit(
    path: Path,
    *,
    subject: str = "",
    time: str = "",
    label: tuple[str, ...] = (),
    available_suffix: str = "",
    feature_time: tuple[str, ...] = (),
    split: str = "",
    ignore: tuple[str, ...] = (),
    json: Path | None = None,
) -> None:
    """Look for leaks in a store, a MEDS folder, or anybody's feature table. Exit status 1 when one is found.

    Args:
        path: A prepared store, a MEDS folder, or a .csv, .csv.gz or .parquet table; the options below are for a table.
        subject: Column that says whose row it is.
        time: Column of prediction times.
        label: Column of a label, or COLUMN=VALUE; may be repeated.
        available_suffix: X + this is the column that says when feature X was known, e.g. _time.
        feature_time: FEATURE=COLUMN, the column that says when the feature was known; may be repeated.
        split: Column that says which part of a split a row is in.
        ignore: Column that is no input; may be repeated.
        json: Also write the findings there.
    """
    from json import dumps

    from mmnar.errors import ConfigError
    from mmnar.evaluation.audit import TableColumns, audit_text
    from mmnar.evaluation.audit import audit as examined
    from mmnar.files import write_text

    pairs = dict(word.partition("=")[::2] for word in feature_time)
    if not all(pairs.values()):
        raise ConfigError("--feature-time", "FEATURE=COLUMN", "no column", "name the column of times after =")
    columns = TableColumns(subject, time, label, available_suffix, pairs, split, ignore)
    found = examined(path, columns)
    if json is not None:
        write_text(json, dumps(found.to_dict(), indent=1, ensure_ascii=False))
    print(audit_text(found))
    if found.leaks:
        sys.exit(1)


@app.command
def doctor(*, root: Path | None = None, store: Path | None = None) -> None:
    """Check this machine, and a data folder or store if given, before hours are lost.

    Args:
        root: A folder of raw records: MIMIC-IV, its notes, MIMIC-CXR, eICU, PhysioNet 2012, MEDS.
        store: A prepared store; every file's hash is recomputed.
    """
    from mmnar.doctor import examine

    lines, healthy = examine(root, store)
    print("\n".join(lines))
    if not healthy:
        sys.exit(1)
