"""``mmnar predict``: risks of patients whose outcome is not known."""

from __future__ import annotations

from pathlib import Path

from mmnar.cli.apps import app
from mmnar.errors import ConfigError


@app.command
def predict(
    run: Path,
    *,
    out: Path,
    root: Path | None = None,
    events: Path | None = None,
    table: Path | None = None,
    at: Path | None = None,
    notes: Path | None = None,
    cxr: Path | None = None,
    embeddings: Path | None = None,
    notes_encoder: str | None = None,
) -> None:
    """Risks of patients whose outcome is not known, by the run's own recipe: no label is read. One patient suffices,
    also one of whom nothing was measured. The file holds identifiers: it is patient data.

    Args:
        run: A run folder.
        out: The Parquet file to write: a row a sample with its risks, before and after the rectifier, their spread over
            the run's fits, its pattern, what is absent, and how many training patients have that pattern.
        root: Raw records, of a run on MIMIC-IV, eICU or PhysioNet 2012. Never written to.
        events: A MEDS data set, of a run on one; needs --at.
        table: A file with the columns of the run's table (.csv, .csv.gz, .parquet).
        at: Parquet file of subject_id and prediction_time: ask then, in place of when the door asks.
        notes: Beside --root, of a run on MIMIC-IV; left out, nobody has notes.
        cxr: Likewise, chest X-rays.
        embeddings: Likewise, the released embeddings of those X-rays.
        notes_encoder: Folder of the model that turned the run's notes into vectors, if it lies elsewhere here.
    """
    from mmnar.cli.prepare import counting_notes
    from mmnar.privacy import counted
    from mmnar.workflow import open_run
    from mmnar.workflow.predict import predict as score
    from mmnar.workflow.predict import write_risks

    if out.is_dir():
        raise ConfigError(f"--out '{out}'", "a file to write", "a folder", "add a name, such as risks.parquet")
    out.parent.mkdir(parents=True, exist_ok=True)
    given = {"root": root, "events": events, "table": table, "at": at}
    with counting_notes() as told:
        scored = score(
            open_run(run),
            **given,
            notes=notes,
            cxr=cxr,
            embeddings=embeddings,
            notes_encoder=notes_encoder,
            work=out.parent,
            told=told,
        )
    for line in scored.warnings:
        print(f"note: {line}")
    write_risks(scored, out)
    print(f"risks of {counted(scored.frame.height)} samples: {out} (patient data)")
