"""Is anything lost? Kills, mutated inputs, full disks and two writers, over every door, training and studies.

    python benchmarks/reliability.py [--smallest] [--only kills mutations disks writers] [--minutes 30] [--seed 0]

**Kills**: SIGKILL at a random moment, of the process alone or of all it started; the same command is then repeated
(every third time after a second kill) and must leave what an undisturbed one leaves, to the bit, and nothing else.
**Mutations**: one file goes wrong. The outcome must be a refusal of one line, or a result equal to the undisturbed one,
or one that says what was left out. A result that lost more than the touched rows without a word is a silent loss.
**Disks**: a file system of its own with too little room (where this process may mount one; else a limit of the size of
files); then room, and the same command again, which must leave what one with room leaves. **Writers**: two at once into
one ``--out``.

Exits with status 1 if there is a traceback, a hang, a silent loss, or a difference.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", POLARS_MAX_THREADS="1")

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning.fabric  # noqa: F401 (imported once, before the forks)
import sklearn.ensemble
import sklearn.linear_model  # noqa: F401
from harm.calls import Outcome, brief, call, start
from harm.judges import of_door, of_run, of_store, of_study
from harm.prints import remains, run_print, store_print, study_print, tree_print
from harm.world import QUICK, TRAIN, World, build

import mmnar.dataset.prepare
import mmnar.report.atlas
import mmnar.report.build
import mmnar.sources.eicu
import mmnar.sources.mimic_iv
import mmnar.sources.physionet2012
import mmnar.sources.table
import mmnar.study.result
import mmnar.training.loop
import mmnar.workflow  # noqa: F401

DOORS = ("table", "physionet2012", "eicu", "mimic-iv", "meds", "synthetic")


@dataclass(frozen=True)
class Size:
    """How many cases of each kind."""

    kills: dict[str, int]
    mutations: dict[str, int]
    disks: int
    writers: int


FULL = Size(
    dict(zip((*DOORS, "train", "study"), (60, 60, 26, 20, 40, 40, 48, 12), strict=True)),
    dict(zip((*DOORS[:5], "store", "run", "study"), (500, 350, 160, 90, 250, 300, 200, 200), strict=True)),
    disks=40,
    writers=40,
)
SMALLEST = Size(
    {"table": 3, "meds": 2, "train": 3}, {"table": 12, "eicu": 3, "meds": 5, "store": 16, "run": 12, "study": 8}, 3, 3
)


class Tally:
    """Counts of outcomes by part and kind, and what went wrong."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], Counter[str]] = {}
        self.faults: list[str] = []
        self.started = time.time()

    def add(self, part: str, kind: str, outcome: str, words: str = "") -> None:
        self.counts.setdefault((part, kind), Counter())[outcome] += 1
        if words:
            self.faults.append(f"{part} {kind}: {outcome}: {words}")
            print(self.faults[-1], flush=True)

    def table(self) -> str:
        lines = ["| part | over | cases | outcomes |", "|---|---|---|---|"]
        for (part, kind), found in self.counts.items():
            words = ", ".join(f"{n} {outcome}" for outcome, n in found.most_common())
            lines.append(f"| {part} | {kind} | {sum(found.values())} | {words} |")
        return "\n".join(lines)


@dataclass(frozen=True)
class Work:
    """A command that writes a folder.

    Args:
        kind: Its name in the table.
        begin, again: Its arguments for a place to write to, the first time and afterwards.
        look: What it left there, as something to compare.
    """

    kind: str
    begin: Callable[[Path], list[object]]
    again: Callable[[Path], list[object]]
    look: Callable[[Path], Any]


def works(world: World) -> dict[str, Work]:
    """Every door, training and the study."""

    def door(name: str) -> Work:
        def arguments(out: Path) -> list[object]:
            return world.prepare(name, world.doors[name][0] if name in world.doors else out, out)

        return Work(name, arguments, arguments, store_print)

    def train(out: Path) -> list[object]:
        return ["train", world.store, *QUICK, *TRAIN, "--out", out]

    def study(out: Path) -> list[object]:
        return ["study", world.study, "--jobs", "2", "--out", out]

    found = {name: door(name) for name in DOORS}
    found["train"] = Work("train", train, lambda out: [*train(out), "--resume"], run_print)
    found["study"] = Work("study", study, study, study_print)
    return found


# --- kills ------------------------------------------------------------------------------------------------------------


def kills(world: World, size: Size, tally: Tally, rng: random.Random) -> Iterator[None]:
    alone: dict[str, tuple[float, Any]] = {}
    for number, kind in enumerate(_mixed(size.kills, rng)):
        work = works(world)[kind]
        if kind not in alone:
            out = world.place("undisturbed")
            seconds = call(work.begin(out), world.base / "log").seconds
            alone[kind] = seconds, work.look(out)
            shutil.rmtree(out)
        out, group = world.place("killed"), bool(number % 2)
        for repeat in range(1 + (number % 3 == 0)):
            running = start((work.again if repeat else work.begin)(out), world.base / "log")
            # as many early as late ones, and some of the first milliseconds
            time.sleep(alone[kind][0] * rng.choice((rng.random(), rng.random(), 0.05 * rng.random())))
            _kill(running, group)
        done = call(work.again(out), world.base / "log2")
        part = f"kill of {'all' if group else 'the process alone'}"
        _judge_repeat(tally, part, kind, done, work, out, alone[kind][1])
        shutil.rmtree(out, ignore_errors=True)
        yield


def _mixed(counts: dict[str, int], rng: random.Random) -> list[str]:
    """Each kind as often as it says, so mixed that any beginning has some of all."""
    order = [((k + rng.random()) / n, kind) for kind, n in counts.items() for k in range(n)]
    return [kind for _, kind in sorted(order)]


def _kill(running: Any, group: bool) -> None:
    with suppress(ProcessLookupError):  # it had not made its group yet
        running.kill(group)
    running.end()


def _judge_repeat(tally: Tally, part: str, kind: str, done: Outcome, work: Work, out: Path, wanted: Any) -> None:
    if done.broken or done.status != 0:
        tally.add(part, kind, "cannot be repeated", f"status {done.status}: {brief(done)}")
        return
    left = remains(out)
    found = work.look(out)
    if found != wanted:
        tally.add(part, kind, "other result", _difference(found, wanted))
    elif left:
        tally.add(part, kind, "left behind", str(left[:3]))
    else:
        tally.add(part, kind, "equal")


def _difference(found: Any, wanted: Any, at: str = "") -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**found, **wanted}:
            if found.get(key) != wanted.get(key):
                return _difference(found.get(key), wanted.get(key), f"{at}/{key}")
    return f"{at}: {str(found)[:120]} in place of {str(wanted)[:120]}"


# --- mutations --------------------------------------------------------------------------------------------------------


def mutations(world: World, size: Size, tally: Tally, rng: random.Random) -> Iterator[None]:
    judges = {"store": of_store, "run": of_run, "study": of_study}
    cases = {kind: judges[kind](world, rng) if kind in judges else of_door(world, kind, rng) for kind in size.mutations}
    for kind in _mixed(size.mutations, rng):
        tally.add("mutated", kind, *next(cases[kind]))
        yield


# --- full disks -------------------------------------------------------------------------------------------------------


def _costly(size: Size) -> tuple[str, ...]:
    """What starts processes that import everything again: not in the smallest size."""
    return () if size is SMALLEST else ("study",)


def disks(world: World, size: Size, tally: Tally, rng: random.Random) -> Iterator[None]:
    mount = world.base / "disk"
    mount.mkdir()
    own = _mounted(mount, 1 << 20)
    if own:
        subprocess.run(["umount", str(mount)], check=True)
    else:
        print("disks: this process may not mount a file system; the size of files is limited in its place")
    report, made = ["--resamples", 10], {*world.doors, "train", *_costly(size)}
    own_works = works(world)

    def other(name: str, *words: object, into: str = "--out") -> Work:
        return Work(name, lambda out: [*words, into, out], lambda out: [*words, into, out], tree_print)

    chosen = [own_works[name] for name in ("table", "eicu", "mimic-iv", "train", "study") if name in made]
    chosen += [
        other("simulate", "simulate", "eicu", "--patients", 40),
        other("evaluate", "evaluate", world.trained, *report),
        other("report", "report", world.trained, *report),
        other("describe", "describe", world.store),
        other("audit", "audit", world.store, into="--json"),
        other("export", "export", world.trained),
    ]
    verbs = {work.kind: work for work in chosen}
    wanted: dict[str, Roomy] = {}
    for verb in _mixed(dict.fromkeys(verbs, -(-size.disks // len(verbs))), rng)[: size.disks]:
        if verb not in wanted:
            wanted[verb] = _with_room(world, verbs[verb])
        room = int((wanted[verb].all if own else wanted[verb].largest) * rng.random() ** 1.5)
        _full(world, tally, mount if own else None, verbs[verb], room, wanted[verb].left)
        yield


class Roomy(NamedTuple):
    """Bytes that a command leaves, those of its largest file, and what it leaves."""

    all: int
    largest: int
    left: Any


def _with_room(world: World, work: Work) -> Roomy:
    out = world.place("needed")
    world.run(work.begin(out))
    sizes = [p.stat().st_blocks * 512 for p in out.rglob("*")] if out.is_dir() else [out.stat().st_size]
    left = work.look(out)
    _gone(out)
    return Roomy(sum(sizes), max(sizes), left)


def _full(world: World, tally: Tally, mount: Path | None, work: Work, room: int, wanted: Any) -> None:
    room, verb = max(room, 8192) // 4096 * 4096, work.kind
    if mount is not None:
        _mounted(mount, room)
    out = world.place("full") if mount is None else mount / "out"
    try:
        done = call(work.begin(out), world.base / "log", largest=room if mount is None else None)
        failed = done.status == 1 and "FAILED" in done.err and not done.broken  # a study says which runs
        if done.broken or not (done.status == 0 or done.refused or failed):
            tally.add("full disk", verb, "traceback or hang", f"{room} bytes, status {done.status}: {brief(done)}")
            return
        if mount is not None:
            subprocess.run(["mount", "-o", "remount,size=400m", str(mount)], check=True)
        repeated = done if done.status == 0 else call(work.again(out), world.base / "log")
        if repeated.status != 0:
            tally.add("full disk", verb, "cannot be repeated", f"{room} bytes: {brief(done)} THEN {brief(repeated)}")
            return
        found, left = work.look(out), remains(out)
        if found != wanted:
            tally.add("full disk", verb, "other result", _difference(found, wanted))
        elif left:
            tally.add("full disk", verb, "left behind", str(left[:3]))
        else:
            tally.add("full disk", verb, "equal: room enough" if done is repeated else "refused, then equal")
    finally:
        if mount is not None:
            subprocess.run(["umount", str(mount)], check=True)
        _gone(out)


def _gone(out: Path) -> None:
    shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)


def _mounted(mount: Path, size: int) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


# --- two writers ------------------------------------------------------------------------------------------------------


def writers(world: World, size: Size, tally: Tally, rng: random.Random) -> Iterator[None]:
    words = lambda out: ["simulate", "eicu", "--patients", 40, "--out", out]  # noqa: E731
    simulate = Work("simulate", words, words, tree_print)
    chosen = [*(works(world)[name] for name in (*world.doors, "synthetic", "train", *_costly(size))), simulate]
    rng.shuffle(chosen)
    wanted: dict[str, Any] = {}
    for number in range(size.writers):
        work, out = chosen[number % len(chosen)], world.place("both")
        if work.kind not in wanted:
            world.run(work.begin(out))
            wanted[work.kind] = work.look(out)
            shutil.rmtree(out)
        first = start(work.begin(out), world.base / "first")
        time.sleep(rng.random() ** 3 * 0.3)
        second = start(work.begin(out), world.base / "second")
        ends = [first.end(), second.end()]
        good = [done for done in ends if done.status == 0]
        refused = [done for done in ends if done.refused]
        if not good or len(good) + len(refused) != 2 or any(done.broken for done in ends):
            tally.add("two writers", work.kind, "broken", " AND ".join(f"{d.status} {brief(d)}" for d in ends))
        elif work.look(out) != wanted[work.kind] or remains(out):
            tally.add("two writers", work.kind, "other result", _difference(work.look(out), wanted[work.kind]))
        else:
            tally.add("two writers", work.kind, "one refused" if refused else "one after the other")
        shutil.rmtree(out, ignore_errors=True)
        yield


PARTS = {"kills": kills, "mutations": mutations, "disks": disks, "writers": writers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true", help="a few cases of each kind: is anything lost at all?")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=1e9, help="at most, for each part; what was done is shown")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing stays mounted
    size, tally = SMALLEST if asked.smallest else FULL, Tally()
    with tempfile.TemporaryDirectory(prefix="mmnar-reliability-") as folder:
        world = build(Path(folder), 40, large=not asked.smallest)
        for name in asked.only:
            end = time.monotonic() + 60 * asked.minutes
            for _ in PARTS[name](world, size, tally, random.Random(asked.seed)):
                if time.monotonic() > end:
                    break
            print(f"{name}: {time.time() - tally.started:.0f} s", flush=True)
    print(f"\n{tally.table()}\n\n{len(tally.faults)} faults, {time.time() - tally.started:.0f} s")
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
