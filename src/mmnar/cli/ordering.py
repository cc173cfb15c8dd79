"""Verbs for when ordering changes: tilt, refit, abstain."""

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


@app.command
def refit(run: Path, *, on: Path, out: Path, share: float = 0.5, seed: int = 0, store: Path | None = None) -> None:
    """A run with another rectifier: its model as it is, the offsets by pattern from outcomes of another store. Judged
    there (evaluate --on), it leaves out whom they were fitted on. A task with fewer than 40 events is left as it is.

    Args:
        run: A run folder.
        on: Another store of the same schema, with outcomes.
        out: Folder of the new run.
        share: Of that store's patients, on whose outcomes the rectifier is fitted; the others are left to be judged.
        seed: Of who is chosen.
        store: Where the run's store lies now, if it has moved since.
    """
    from mmnar.workflow import open_run
    from mmnar.workflow.refit import refit_run

    made = refit_run(open_run(run), on, out, share=share, seed=seed, store=store)
    for task, reason in made.refit["reasons"].items():
        prior = made.refit["prior_no_effect"].get(task)
        print(f"{task}: {reason or f'refitted (prior probability of no offsets {prior:g})'}")
    print(f"{made.name}: fitted on about {made.refit['patients']:,} patients of {on} → {out}")


@app.command
@writes_out
def abstain(
    run: Path,
    *,
    alpha: float = 0.1,
    exact: bool = False,
    on: Path | None = None,
    store: Path | None = None,
    out: Path | None = None,
) -> None:
    """How often does a run decide if it may say "undecided"? Sets of labels by pattern that hold what happens for 90 %
    of the patients with the outcome, and of those without.

    Args:
        run: A cross-fitted run with a test fold.
        alpha: Share of patients with, and without, the outcome whom the sets may miss.
        exact: Borrow nothing from other patterns: exact by pattern, and undecided where few patients have one.
        on: Another store of the same schema: its patients are judged.
        store: Where the run's store lies now, if it has moved since.
        out: Also write abstain.html, one offline file, and abstain.json there.
    """
    from mmnar.posthoc.sets import LabelSets
    from mmnar.report.abstain import abstain_text, write_abstain
    from mmnar.workflow import open_run
    from mmnar.workflow.abstain import abstain as abstained

    found = abstained(open_run(run), LabelSets(alpha, exact), on=on, store=store)
    print(abstain_text(found))
    if out is not None:
        print(f"\npage: {write_abstain(found, out)}")
