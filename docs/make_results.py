"""Writes docs/results/NAME.md from results/NAME.json: studies (their slim.json) and what methods find in planted data.

python docs/make_results.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from mmnar.files import write_text
from mmnar.report.study.page import study_markdown
from mmnar.simulation.planted import MECHANISMS
from mmnar.study.result import FORMAT
from mmnar.study.saved import load_result

ROOT: Final = Path(__file__).parents[1]
PLANTED: Final = """# What each method finds in planted data

AUROC on 10,000 fresh patients, one fit on 4,000 with default settings, expected over labels given the exact risks.
Where δ is appended the head sees the pattern. One fit each: differences of .005 are chance.

`pattern`: the pattern alone carries the outcome; `single`: one modality does; `product`: the sign of a product of two
modalities; `recover`: a modality that most patients lack and that follows from another; `severity`: what is missing
follows the outcome's own cause.

`python benchmarks/planted.py --json planted.json`; `mt, early fusion` is `--methods mt model.fusion_layer=1`,
`cm-ae, completed` is `--methods cm-ae model.head_input=completed`.

"""


def documents() -> dict[Path, str]:
    """File → text, of every study among the results and of the planted data; results of older code are taken out."""
    found = sorted((ROOT / "results").glob("*.json"))
    studies = [p for p in found if FORMAT in p.read_text(encoding="utf-8")[:200]]
    pages = {p.stem: study_markdown(load_result(p)) for p in studies}
    found_in_planted = ROOT / "results" / "planted.json"
    if found_in_planted.is_file():
        pages["planted"] = planted_markdown(json.loads(found_in_planted.read_text(encoding="utf-8")))
    return {ROOT / "docs" / "results" / f"{name}.md": text for name, text in pages.items()}


def planted_markdown(figures: list[dict[str, Any]]) -> str:
    """A row per method and choice of ``append_pattern``, a column per mechanism."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for of in figures:
        rows.setdefault((of["method"], of["append_pattern"]), {})[of["mechanism"]] = of["auroc"]
    exact = {of["mechanism"]: of["bayes"] for of in figures}
    lines = [["method", "δ appended", *MECHANISMS], ["---"] * (2 + len(MECHANISMS))]
    lines += [[name, {"true": "yes", "false": "no"}.get(told, ""), *_cells(row)] for (name, told), row in rows.items()]
    lines += [["*exact risks*", "", *_cells(exact)]]
    return PLANTED + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(row: dict[str, float]) -> list[str]:
    return [f"{row[m]:.3f}".lstrip("0") if m in row else "" for m in MECHANISMS]


if __name__ == "__main__":
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)
        print(path.relative_to(ROOT))
