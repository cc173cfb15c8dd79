"""Is anything lost? Kills, mutated inputs, full disks and two writers, over every door, training and studies.

    python benchmarks/reliability.py [--smallest] [--only kills mutations disks writers] [--seed 0]

**Kills**: SIGKILL at a random moment, of the process alone or of all it started; the same command is then repeated
(every third time after a second kill) and must leave what an undisturbed one leaves, to the bit, and nothing else.
**Mutations**: one file goes wrong. The outcome must be a refusal of one line, or a result equal to the undisturbed one,
or one that says what was left out. A result that lost more than the touched rows without a word is a silent loss.
**Disks**: a file system of its own with too little room (where this process may mount one; else a limit of the size of
files); then room, and the same command again. **Writers**: two at once into one ``--out``.

Exits with status 1 if there is a traceback, a hang, a silent loss, or a difference.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", POLARS_MAX_THREADS="1")

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.fabric  # noqa: F401 (imported once, before the forks)
import mmnar.report.describe
import sklearn.ensemble
import sklearn.linear_model  # noqa: F401
from harm.calls import Outcome, call, start
from harm.mutations import mutate
from harm.prints import cells, remains, run_print, store_print, study_print, tree_print
from harm.world import QUICK, TRAIN, World, build

import mmnar.dataset.prepare
import mmnar.report.build
import mmnar.sources.eicu
import mmnar.sources.mimic_iv
import mmnar.sources.physionet2012
import mmnar.sources.table
import mmnar.study.result
import mmnar.training.loop
import mmnar.workflow  # noqa: F401

DOORS = ("table", "physionet2012", "eicu", "mimic-iv", "meds", "synthetic")
SILENT_SHARE = 0.05
"""Of a modality's values or of the samples: what may be missing without a word where one row or cell was touched."""


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
    {"table": 3, "meds": 2, "train": 3}, {"table": 12, "eicu": 4, "meds": 6, "store": 20, "run": 14, "study": 8}, 4, 3
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
            inputs = Path("7") if name == "synthetic" else world.doors[name][0]
            return world.prepare(name, inputs, out)

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


def kills(world: World, size: Size, tally: Tally, rng: random.Random) -> None:
    for kind, times in size.kills.items():
        work, out = works(world)[kind], world.place("undisturbed")
        undisturbed = call(work.begin(out), world.base / "log")
        wanted = work.look(out)
        shutil.rmtree(out)
        for number in range(times):
            out, group = world.place("killed"), bool(number % 2)
            for repeat in range(1 + (number % 3 == 0)):
                running = start((work.again if repeat else work.begin)(out), world.base / "log")
                # as many early as late ones, and some of the first milliseconds
                time.sleep(undisturbed.seconds * rng.choice((rng.random(), rng.random(), 0.05 * rng.random())))
                _kill(running, group)
            done = call(work.again(out), world.base / "log2")
            _judge_repeat(tally, f"kill of {'all' if group else 'one'}", kind, done, work, out, wanted)
            shutil.rmtree(out, ignore_errors=True)


def _kill(running: Any, group: bool) -> None:
    with suppress(ProcessLookupError):  # it had not made its group yet
        running.kill(group)
    running.end()


def _judge_repeat(tally: Tally, part: str, kind: str, done: Outcome, work: Work, out: Path, wanted: Any) -> None:
    if done.broken or done.status != 0:
        tally.add(part, kind, "cannot be repeated", f"status {done.status}: {_brief(done)}")
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


def _brief(done: Outcome) -> str:
    lines = [line for line in done.err.strip().splitlines() if line.strip()]
    return " / ".join(lines[-8:] if done.broken else lines[-1:])[:900]


# --- mutations --------------------------------------------------------------------------------------------------------


def mutations(world: World, size: Size, tally: Tally, rng: random.Random) -> None:
    judges = {"store": _of_store, "run": _of_run, "study": _of_study}
    for kind, times in size.mutations.items():
        cases = judges[kind](world, rng) if kind in judges else _of_door(world, kind, rng)
        for _, (outcome, words) in zip(range(times), cases, strict=False):
            tally.add("mutated", kind, outcome, words)


Cases = Iterator[tuple[str, str]]
"""Outcome, and what is wrong with it ("" = nothing)."""


def _mutated(folder: Path, rng: random.Random) -> str:
    """Change one file; what was done, for the table of faults."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    # large families of files alike are as likely as one of them
    families = sorted({(p.parent if len(list(p.parent.iterdir())) > 20 else p) for p in files})
    family = rng.choice(families)
    path = family if family.is_file() else rng.choice([p for p in files if p.parent == family])
    return f"{mutate(path, rng)} of {path.relative_to(folder)}"


def _of_door(world: World, door: str, rng: random.Random) -> Cases:
    inputs, kept = world.doors[door][0], world.base / "stores" / door
    base, had = store_print(kept), cells(kept)
    while True:
        case = world.place("inputs")
        shutil.copytree(inputs, case, symlinks=True)
        what, out = _mutated(case, rng), world.place("out")
        done = call(world.prepare(door, case, out), world.base / "log", before=None if rng.random() < 0.1 else _quick)
        if done.broken:
            yield "traceback or hang", f"{what}: status {done.status}: {_brief(done)}"
        elif done.status != 0:
            yield ("refused", "") if done.refused else ("no reason", f"{what}: status {done.status}, {_brief(done)}")
        else:
            now = store_print(out)
            told = any(now[key] != base[key] for key in ("warnings", "attrition")) or bool(done.err.strip())
            lost = [name for name, n in had.items() if cells(out).get(name, 0) < n * (1 - SILENT_SHARE) - 2]
            if now["fingerprint"] == base["fingerprint"]:
                yield "equal", ""
            elif told:
                yield "said", ""
            elif lost:
                yield "silent loss", f"{what}: {[(n, had[n], cells(out).get(n, 0)) for n in lost]}"
            else:
                yield "as the change says", ""
        shutil.rmtree(case)
        shutil.rmtree(out, ignore_errors=True)


def _quick() -> None:
    """Without the description at the end, which reads a store like any other."""
    import mmnar.cli.inspect

    mmnar.cli.inspect.describe = lambda store, out=None: None


def _of_store(world: World, rng: random.Random) -> Cases:
    kinds = [*DOORS[:5], "eicu", "meds"]
    verbs: tuple[tuple[object, ...], ...] = (("audit",), ("describe",), ("train",), ("evaluate",))
    clean: dict[tuple[str, str], str] = {}
    while True:
        verb = rng.choice(verbs)[0]
        kind = "other" if verb == "evaluate" else rng.choice(kinds)
        yield _read_case(world, rng, world.base / "stores" / kind, str(verb), clean, (kind, str(verb)))


def _of_run(world: World, rng: random.Random) -> Cases:
    clean: dict[tuple[str, str], str] = {}
    while True:
        verb = rng.choice(("evaluate", "evaluate", "evaluate on", "export", "report", "resume"))
        yield _read_case(world, rng, world.trained, verb, clean, ("run", verb))


def _read_case(
    world: World, rng: random.Random, source: Path, verb: str, clean: dict[tuple[str, str], str], key: tuple[str, str]
) -> tuple[str, str]:
    """Mutate a copy of a store or run and read it: refused, or as if nothing were."""
    case = world.place("copy") / source.name
    if key not in clean:
        shutil.copytree(source, case)
        clean[key] = _reading(world, case, verb)[1]
        shutil.rmtree(case.parent)
    shutil.copytree(source, case)
    what = _mutated(case, rng)
    done, seen = _reading(world, case, verb)
    shutil.rmtree(case.parent, ignore_errors=True)
    if done.broken:
        return "traceback or hang", f"{verb}, {what}: status {done.status}: {_brief(done)}"
    if done.refused:
        return "refused", ""
    if seen == clean[key]:
        return "equal", ""
    return "silent loss", f"{verb}, {what}: {_brief(done)}"


def _reading(world: World, at: Path, verb: str) -> tuple[Outcome, str]:
    """Read a store or run by a verb; what it gave."""
    out, log = world.place("read"), world.base / "log"
    store = ["--store", world.store]
    arguments: dict[str, list[object]] = {
        "audit": ["audit", at],
        "describe": ["describe", at],
        "train": ["train", at, "rectifier.rule=none", "split.calibration=0", "--model", "pattern-only", "--out", out],
        "evaluate": ["evaluate", at, "--resamples", 10],
        "evaluate on": ["evaluate", at, "--on", world.other, "--resamples", 10],
        "export": ["export", at, *store, "--out", out],
        "report": ["report", at, *store, "--resamples", 10, "--out", out],
        "resume": ["train", world.store, *QUICK, *TRAIN, "--out", at, "--resume"],
    }
    if verb == "evaluate" and (at / "manifest.json").parent.name == "other":
        arguments["evaluate"] = ["evaluate", world.trained, "--on", at, "--resamples", 10]
    if verb == "resume":
        out = at
    done = call(arguments[verb], log)
    seen = f"{done.status} {done.out}".replace(str(at), "AT").replace(str(out), "OUT")
    if verb in ("train", "resume") and done.status == 0:
        seen = json.dumps(run_print(out), sort_keys=True)
    elif verb == "export" and done.status == 0:
        seen = json.dumps(tree_print(out), sort_keys=True)
    if out != at:
        shutil.rmtree(out, ignore_errors=True)
    return done, seen


def _of_study(world: World, rng: random.Random) -> Cases:
    """Half of the time the study's file goes wrong, half of the time its folder."""
    clean = call(["study", world.study, "--out", world.studied], world.base / "log").out
    while True:
        case = world.place("study")
        case.mkdir()
        shutil.copytree(world.studied, case / "out")
        shutil.copy(world.study, case / "study.yaml")
        file = case / "study.yaml"
        what = f"{mutate(file, rng)} of study.yaml" if rng.random() < 0.5 else _mutated(case / "out", rng)
        done = call(["study", file, "--out", case / "out"], world.base / "log", before=_nobody)
        if done.broken:
            yield "traceback or hang", f"{what}: status {done.status}: {_brief(done)}"
        elif done.refused:
            yield "refused", ""
        elif done.status == 1 and "FAILED" in done.err:
            yield "said", ""  # runs that are not there are missing, and nobody makes them here
        elif done.status == 0:
            same = done.out.replace(str(case / "out"), str(world.studied)) == clean
            if same or "study.yaml" in what:
                yield ("equal" if same else "as the change says"), ""
            else:
                yield "silent loss", what
        else:
            yield "no reason", f"{what}: status {done.status}: {_brief(done)}"
        shutil.rmtree(case)


def _nobody() -> None:
    """An engine that makes no runs, so that a changed study costs no training."""
    import mmnar.study.engines.registry as registry

    class Nobody:
        def run(self, jobs: object, ended: object) -> None:
            return

    registry.engine_of = lambda *_: Nobody()  # type: ignore[assignment]


# --- full disks -------------------------------------------------------------------------------------------------------


def disks(world: World, size: Size, tally: Tally, rng: random.Random) -> None:
    mount = world.base / "disk"
    mount.mkdir()
    own = _mounted(mount, 1 << 20)
    if own:
        subprocess.run(["umount", str(mount)], check=True)
    else:
        print("disks: this process may not mount a file system; the size of files is limited in its place")
    report = ["--resamples", 10]
    verbs: dict[str, Callable[[Path], list[object]]] = {
        **{name: works(world)[name].begin for name in ("table", "mimic-iv", "train", "study")},
        "simulate": lambda out: ["simulate", "eicu", "--patients", 40, "--out", out],
        "evaluate": lambda out: ["evaluate", world.trained, *report, "--out", out],
        "report": lambda out: ["report", world.trained, *report, "--out", out],
        "describe": lambda out: ["describe", world.store, "--out", out],
        "audit": lambda out: ["audit", world.store, "--json", out],
        "export": lambda out: ["export", world.trained, "--out", out],
    }
    needed = {verb: _needed(world, arguments) for verb, arguments in verbs.items()}
    for number in range(size.disks):
        verb = list(verbs)[number % len(verbs)]
        share = rng.random() ** 1.5
        _full(world, tally, mount if own else None, verb, verbs[verb], int(needed[verb][0 if own else 1] * share))


def _needed(world: World, arguments: Callable[[Path], list[object]]) -> tuple[int, int]:
    """Bytes that a command leaves, and its largest file."""
    out = world.place("needed")
    world.run(arguments(out))
    sizes = [p.stat().st_blocks * 512 for p in out.rglob("*")] if out.is_dir() else [out.stat().st_size]
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    return sum(sizes), max(sizes)


def _full(
    world: World, tally: Tally, mount: Path | None, verb: str, arguments: Callable[[Path], list[object]], room: int
) -> None:
    room = max(room, 8192) // 4096 * 4096
    if mount is not None:
        _mounted(mount, room)
        out = mount / "out"
        done = call(arguments(out), world.base / "log")
    else:
        out = world.place("full")
        done = call(arguments(out), world.base / "log", largest=room)
    try:
        failed = done.status == 1 and "FAILED" in done.err and not done.broken  # a study says which runs
        if done.broken or not (done.status == 0 or done.refused or failed):
            tally.add("full disk", verb, "traceback or hang", f"{room} bytes, status {done.status}: {_brief(done)}")
            return
        if mount is not None:
            subprocess.run(["mount", "-o", "remount,size=400m", str(mount)], check=True)
        again = arguments(out)
        if verb == "train":
            again.append("--resume")
        repeated = call(again, world.base / "log")
        if done.status != 0 and repeated.status != 0 and verb != "export":
            tally.add("full disk", verb, "cannot be repeated", f"{room} bytes: {_brief(done)} THEN {_brief(repeated)}")
        else:
            tally.add("full disk", verb, "enough" if done.status == 0 else "refused, then equal")
    finally:
        if mount is not None:
            subprocess.run(["umount", str(mount)], check=True)
        elif out.is_dir():
            shutil.rmtree(out)


def _mounted(mount: Path, size: int) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


# --- two writers ------------------------------------------------------------------------------------------------------


def writers(world: World, size: Size, tally: Tally, rng: random.Random) -> None:
    simulate = Work("simulate", lambda out: ["simulate", "eicu", "--patients", 40, "--out", out], list, tree_print)
    chosen = [works(world)[name] for name in ("table", "meds", "train", "synthetic", "physionet2012")] + [simulate]
    wanted = {}
    for work in chosen[: size.writers]:
        out = world.place("alone")
        world.run(work.begin(out))
        wanted[work.kind] = work.look(out)
    for number in range(size.writers):
        work, out = chosen[number % len(chosen)], world.place("both")
        first = start(work.begin(out), world.base / "first")
        time.sleep(rng.random() ** 3 * 0.3)
        second = start(work.begin(out), world.base / "second")
        ends = [first.end(), second.end()]
        good = [done for done in ends if done.status == 0]
        refused = [done for done in ends if done.refused]
        if not good or len(good) + len(refused) != 2 or any(done.broken for done in ends):
            tally.add("two writers", work.kind, "broken", " AND ".join(f"{d.status} {_brief(d)}" for d in ends))
        elif work.look(out) != wanted[work.kind] or remains(out):
            tally.add("two writers", work.kind, "other result", _difference(work.look(out), wanted[work.kind]))
        else:
            tally.add("two writers", work.kind, "one refused" if refused else "one after the other")
        shutil.rmtree(out)


PARTS = {"kills": kills, "mutations": mutations, "disks": disks, "writers": writers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true", help="a few cases of each kind: is anything lost at all?")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    size, tally = SMALLEST if asked.smallest else FULL, Tally()
    with tempfile.TemporaryDirectory(prefix="mmnar-reliability-") as folder:
        world = build(Path(folder), 40)
        for name in asked.only:
            PARTS[name](world, size, tally, random.Random(asked.seed))
            print(f"{name}: {time.time() - tally.started:.0f} s", flush=True)
    print(f"\n{tally.table()}\n\n{len(tally.faults)} faults, {time.time() - tally.started:.0f} s")
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
