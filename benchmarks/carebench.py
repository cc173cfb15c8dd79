"""How long `mmnar prepare carebench` takes, and whether its memory grows with the patients.

    python benchmarks/carebench.py [--smallest] [--patients 500 2000 8000]

Simulated records with films of 64 pixels; processor and wall seconds and the largest resident memory of a process that
reads them into a store (the description at the end included). Bar: 2,000 patients in 60 s.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmnar.simulation.carebench.release import write_carebench
from mmnar.simulation.mimic_iv.release import CXR, IV

SIDE = "64"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--patients", type=int, nargs="+", default=[500, 2000, 8000])
    asked = parser.parse_args()
    for patients in [60] if asked.smallest else asked.patients:
        with tempfile.TemporaryDirectory(prefix="mmnar-carebench-") as folder:
            tree = Path(folder) / "tree"
            write_carebench(tree, patients, seed=1, images=True, side=int(SIDE))
            words = ["prepare", "carebench", "--root", tree / IV, "--cxr", tree / CXR, "--image-side", SIDE]
            command = [sys.executable, __file__, "--only", *map(str, words), "--out", str(Path(folder) / "store")]
            begun = time.perf_counter()
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
            print(f"{patients:6,} patients: {time.perf_counter() - begun:6.1f} s, {told}", flush=True)


def only(words: list[str]) -> None:
    """The command in this process, and what it took."""
    from mmnar.cli import main as command

    try:
        command(words)
    except SystemExit as ended:
        if ended.code:
            raise
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{used.ru_utime + used.ru_stime:.1f} CPU s, at most {used.ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    only(sys.argv[2:]) if sys.argv[1:2] == ["--only"] else main()
