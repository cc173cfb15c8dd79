"""A page as PDF: printed by a browser that is installed, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from mmnar.errors import RequirementError
from mmnar.files import write_whole

BROWSERS: Final = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge", "msedge"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
"""Of one family: they print without a window."""
FLAGS: Final = (
    "--headless --disable-gpu --disable-extensions --disable-sync --disable-component-update --no-first-run "
    "--disable-background-networking --proxy-server=127.0.0.1:9 --no-pdf-header-footer"
)
SECONDS: Final = 300


def browser() -> str:
    """The first browser there is.

    Raises:
        RequirementError: None.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise RequirementError(
            "a PDF", "Chromium, Chrome or Edge to print it", "none on PATH", "install one, or print the page by hand"
        )
    return found


def write_pdf(page: Path, target: Path) -> None:
    """Print an HTML file.

    Raises:
        RequirementError: No browser, or it did not print.
        OSError: No room or no permission.
    """
    executable = browser()
    # what a browser may not do for the superuser it can only do without its sandbox; the page has no script
    alone = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="mmnar-print-", ignore_cleanup_errors=True) as folder:
        printed = Path(folder) / "page.pdf"
        command = [executable, *FLAGS.split(), *alone, f"--user-data-dir={folder}/profile", f"--print-to-pdf={printed}"]
        try:
            subprocess.run([*command, page.resolve().as_uri()], capture_output=True, timeout=SECONDS, check=False)
        except (subprocess.TimeoutExpired, OSError) as error:
            raise _unprinted(executable, type(error).__name__) from error
        if not printed.is_file() or not printed.read_bytes().startswith(b"%PDF"):
            raise _unprinted(executable, "none")
        write_whole(target, lambda whole: shutil.copyfile(printed, whole))


def _unprinted(executable: str, fact: str) -> RequirementError:
    return RequirementError(f"PDF by {Path(executable).name}", "a printed file", fact, "print the page by hand")
