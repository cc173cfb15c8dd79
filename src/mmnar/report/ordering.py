"""What a report says of the chosen models if ordering changes: label sets, and the tilt against a blind run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mmnar.predictions import OUT_OF_FOLD
from mmnar.render.blocks import Block, Heading
from mmnar.report import abstain as sets
from mmnar.report import tilt as tilts
from mmnar.workflow import Run
from mmnar.workflow.abstain import Abstention, abstain
from mmnar.workflow.tilt import Tilt, tilt, unlike

RESAMPLES: Final = 200
"""Of a tilt at most: each ω of each task is ranked anew in every one."""


def sets_of(
    chosen: Sequence[Run], runs: Sequence[Run], on: Path | None, store: Path | None, resamples: int
) -> tuple[Abstention, ...]:
    """Of the chosen runs that have risks out of fold beside those that are judged.

    Args:
        runs: All that are judged beside them.
    """
    able = [run for run in chosen if run.calibration() is not None and (on is not None or not _out_of_fold(run))]
    return tuple(abstain(run, on=on, store=store, beside=runs, resamples=resamples) for run in able)


def tilts_of(
    chosen: Sequence[Run],
    runs: Sequence[Run],
    on: Path | None,
    store: Path | None,
    resamples: int,
    thresholds: Mapping[str, Sequence[float]] | None,
) -> tuple[Tilt, ...]:
    """Of the chosen runs that know the pattern, each against the first blind run of the same store and split."""
    blind = [run for run in runs if run.predictor().blind] if len(runs) > 1 else []
    found = []
    for run in chosen:
        alike = next((other for other in blind if run not in blind and not unlike(run, other)), None)
        if alike is not None:
            found.append(
                tilt(
                    run,
                    alike,
                    on=on,
                    store=store,
                    resamples=min(resamples, RESAMPLES),
                    thresholds=thresholds,
                    advise=False,
                    beside=runs,
                )
            )
    return tuple(found)


def _out_of_fold(run: Run) -> bool:
    return run.test.provenance.get("validation") == OUT_OF_FOLD


def abstaining(found: Sequence[Abstention]) -> Iterator[Block]:
    """Blocks of label sets."""
    for of in found:
        yield Heading(of.name)
        yield from sets.said(of)
        yield from sets.each_task(of)


def tilting(found: Sequence[Tilt]) -> Iterator[Block]:
    """Blocks of tilts."""
    for of in found:
        yield Heading(of.aware)
        yield from tilts.said(of)
        yield from tilts.each_task(of)
