"""Writes docs/report.png, the README's picture: the top of the demo's report, as a browser shows it.

python docs/make_pictures.py [demo/report/report.html]     # after make demo; needs chromium and Pillow
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image

PICTURE: Final = Path(__file__).parent / "report.png"
WIDTH: Final = 1180
HEIGHT: Final = 850
"""In pixels: the answers."""
COLOURS: Final = 48
LARGEST: Final = 150_000
"""Bytes."""


def take(report: Path, picture: Path) -> None:
    """A picture of the first screen of a report.

    Raises:
        SystemExit: No report, chromium took no picture, or it is too large.
    """
    if not report.is_file():
        raise SystemExit(f"{report}: expected a report, found none; run make demo")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
        address = report.resolve().as_uri()
        subprocess.run(["chromium", *words, f"--screenshot={shot}", address], check=True, capture_output=True)
        Image.open(shot).convert("RGB").quantize(COLOURS).save(picture, optimize=True)
    if picture.stat().st_size > LARGEST:
        raise SystemExit(f"{picture}: expected {LARGEST} bytes or fewer, found {picture.stat().st_size}; lower HEIGHT")


if __name__ == "__main__":
    take(Path(sys.argv[1] if len(sys.argv) > 1 else "demo/report/report.html"), PICTURE)
    print(PICTURE)
