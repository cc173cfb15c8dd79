"""Runs the scripts of docs/gallery and writes a page of each: picture, output, code; ``make docs`` does so.

python docs/make_gallery.py
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "gallery"
SHARED: Final = ("ward", "mean_fusion")
"""What scripts import."""


def scripts() -> list[Path]:
    return [path for path in sorted(FOLDER.glob("*.py")) if path.stem not in SHARED]


def page(script: Path, printed: str) -> str:
    """Title and words from the docstring, then picture, output and code."""
    title, _, words = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").partition("\n")
    code = [f"```{{literalinclude}} {name}\n:language: python\n```" for name in _shown(script)]
    parts = [f"# {title.rstrip('.')}", words.strip().replace("``", "`"), f"![{title}]({script.stem}.svg)"]
    return "\n\n".join([*parts, f"```text\n{printed.rstrip()}\n```", *code]) + "\n"


def _shown(script: Path) -> list[str]:
    also = ["mean_fusion.py"] if "mean_fusion" in script.read_text(encoding="utf-8") else []
    return [script.name, *also]


def run(script: Path, folder: Path) -> str:
    """What it prints; its picture is in the folder then."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{script.name} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def make(script: Path) -> None:
    """Its page and its picture."""
    with tempfile.TemporaryDirectory() as folder:
        printed = run(script, Path(folder))
        picture = Path(folder) / f"{script.stem}.svg"
        (FOLDER / picture.name).write_text(picture.read_text(encoding="utf-8"), encoding="utf-8")
    (FOLDER / f"{script.stem}.md").write_text(page(script, printed), encoding="utf-8")


def main() -> None:
    with ThreadPoolExecutor(2) as two:
        list(two.map(make, scripts()))


if __name__ == "__main__":
    main()
