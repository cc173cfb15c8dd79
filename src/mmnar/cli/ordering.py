"""Verbs for when ordering changes: tilt."""

from __future__ import annotations

from pathlib import Path

from mmnar.cli.apps import app, writes_out


@app.command
@writes_out
def tilt(
    run: Path,
    *,
    blind: Path,
    on: Path | None = None,
    store: Path | None = None,
    thresholds: tuple[str, ...] = (),
    out: Path | None = None,
) -> None:
    """What becomes of risks and decisions if the pattern of modalities means something else? The risk that knows the
    pattern, the one that does not, and what lies between and beyond.

    Args:
        run: A run that knows the pattern.
        blind: A run on the same store and split that cannot tell which modalities are there: crl-mmnar with
            model.pattern_input=blind, or logistic-, boosting- or lightgbm-pattern with model.append_pattern=false.
        on: Another store of the same schema: its patients are judged, and what its ordering speaks for is said.
        store: Where the runs' store lies now, if it has moved since.
        thresholds: Such as mortality=0.1,0.2: risks at which decisions are looked at, the main one first.
        out: Also write tilt.html, one offline file, and tilt.json there.
    """
    from mmnar.cli.run import thresholds_in
    from mmnar.report.tilt import tilt_text, write_tilt
    from mmnar.workflow import open_run
    from mmnar.workflow.tilt import tilt as tilted

    at = thresholds_in(thresholds)
    found = tilted(open_run(run), open_run(blind), on=on, store=store, thresholds=at)
    print(tilt_text(found))
    if out is not None:
        print(f"\npage: {write_tilt(found, out)}")
