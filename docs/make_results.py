"""Writes docs/results/NAME.md from results/NAME.json, what a study's command left as slim.json.

python docs/make_results.py
"""

from __future__ import annotations

from pathlib import Path

from mmnar.files import write_text
from mmnar.study.markdown import study_markdown
from mmnar.study.result import FORMAT
from mmnar.study.saved import load_result

ROOT = Path(__file__).parents[1]


def documents() -> dict[Path, str]:
    """File → text, of every study among the results; other benchmarks have forms of their own."""
    studies = [p for p in sorted((ROOT / "results").glob("*.json")) if FORMAT in p.read_text(encoding="utf-8")[:200]]
    return {ROOT / "docs" / "results" / f"{p.stem}.md": study_markdown(load_result(p)) for p in studies}


if __name__ == "__main__":
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)
        print(path.relative_to(ROOT))
