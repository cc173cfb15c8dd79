"""Patients who do not exist, and pictures: what the scripts of this folder share.

Names outside the public modules may change; a test runs every script, so that each works with the version it is of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mmnar import Fold, PatientDataset, Split
from mmnar.cohort.build import build_cohort
from mmnar.dataset.prepare import dataset_of
from mmnar.evaluation import Estimate
from mmnar.render.marks import forest
from mmnar.render.svg import DASHES, PALETTE, Axes, dot, grid, nice_ticks, svg, text
from mmnar.roles import Test
from mmnar.simulation.events import read_synthetic
from mmnar.simulation.population import simulate
from mmnar.simulation.questions import synthetic_criteria, synthetic_questions

STYLE = """<style>svg{background:#fff;font-family:sans-serif}text{fill:#1d2733;font-size:11px}.tick,.label{fill:#5a6672}
.grid{stroke:#e7ebef;fill:none}.axis{stroke:#8b95a1;fill:none}polyline{fill:none;stroke-width:1.8}
.whisker{stroke-width:2;fill:none}.reference{stroke:#6d7784;stroke-dasharray:2 3;fill:none}</style>"""


def patients(n: int, seed: int = 0, modalities: int = 4, **policy: Any) -> PatientDataset:
    """A simulated ward; ``policy`` says what its clinicians order, as the options of ``mmnar prepare synthetic`` do."""
    extract = read_synthetic(simulate(n, modalities, seed, **policy))
    return dataset_of(extract, build_cohort(extract, synthetic_criteria(), synthetic_questions()))


def strangers(ward: PatientDataset, learned_from: PatientDataset) -> Fold[Test]:
    """Everybody of a ward, as people whom no fit on another has seen: their numbers are put out of its way."""
    return replace(ward, subject_id=ward.subject_id + 10**9, secret=learned_from.secret).fold(Split.external(), "test")


def lines(file: str, x: str, y: str, drawn: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Lines by name, with their names beside them, to ``file`` in the working folder."""
    across, up = ([v for line in drawn.values() for v in line[i]] for i in (0, 1))
    xs, ys = nice_ticks(min(across), max(across)), nice_ticks(min(up), max(up))
    axes = Axes((xs[0], xs[-1]), (ys[0], ys[-1]), 560, 300, right=180)
    parts = [Markup(STYLE), *grid(axes, x, y)]
    for i, (name, (at, values)) in enumerate(drawn.items()):
        colour, dash = PALETTE[i % len(PALETTE)], DASHES[i % len(DASHES)]
        shown = '<polyline stroke="{}" stroke-dasharray="{}" points="{}"/>'
        parts.append(Markup(shown).format(colour, dash, axes.points(at, values)))
        parts += [dot(axes.px(a), axes.py(v), colour, 2.5, name) for a, v in zip(at, values, strict=True)]
        beside = Markup(shown).format(colour, dash, f"392,{24 + 18 * i} 418,{24 + 18 * i}")
        parts += [beside, text(424, 28 + 18 * i, name)]
    _written(file, str(svg(axes.width, axes.height, f"{y} by {x}", parts)))


def rows(file: str, title: str, estimates: Mapping[str, Estimate], best: float | None = None) -> None:
    """A row each with its interval; ``best``: the dotted line of what can be had."""
    _written(file, str(forest(title, estimates, {}, best)).replace(">", f">{STYLE}", 1))


def _written(file: str, picture: str) -> None:
    Path(file).write_text(picture.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1), encoding="utf-8")
