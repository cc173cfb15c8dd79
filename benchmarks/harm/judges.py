"""What becomes of a command when one file of its inputs, its store, its run or its study goes wrong."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from harm.calls import Outcome, brief, call
from harm.mutations import mutate
from harm.prints import cells, run_print, store_print, tree_print
from harm.world import QUICK, TRAIN, World

SILENT_SHARE = 0.05
"""Of a modality's values or of the samples: what may be missing without a word where one row or cell was touched."""

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


def of_door(world: World, door: str, rng: random.Random) -> Cases:
    inputs, kept = world.doors[door][0], world.base / "stores" / door
    base, had = store_print(kept), cells(kept)
    said = _counts(call(world.prepare(door, inputs, world.place("said")), world.base / "log", before=_quick).out)
    while True:
        case = world.place("inputs")
        shutil.copytree(inputs, case, symlinks=True)
        what, out = _mutated(case, rng), world.place("out")
        done = call(world.prepare(door, case, out), world.base / "log", before=None if rng.random() < 0.1 else _quick)
        if done.broken:
            yield "traceback or hang", f"{what}: status {done.status}: {brief(done)}"
        elif done.status != 0:
            yield ("refused", "") if done.refused else ("no reason", f"{what}: status {done.status}, {brief(done)}")
        else:
            now = store_print(out)
            told = any(now[key] != base[key] for key in ("warnings", "attrition")) or _counts(done.out) - said
            lost = [name for name, n in had.items() if cells(out).get(name, 0) < n * (1 - SILENT_SHARE) - 2]
            if now["fingerprint"] == base["fingerprint"]:
                yield "equal", ""
            elif told:
                yield "said", ""
            elif lost and not what.startswith(("column_name", "columns_swapped")) and "spec.yaml" not in what:
                # other columns are other contents, and how a spec is understood is printed
                yield "silent loss", f"{what}: {[(n, had[n], cells(out).get(n, 0)) for n in lost]}"
            else:
                yield "as the change says", ""
        shutil.rmtree(case)
        shutil.rmtree(out, ignore_errors=True)


def _counts(printed: str) -> set[str]:
    """Lines that say what was left out."""
    words = ("dropped", "left out", "not used", "not read", "missing", "unknown", "note:", "warning", "other")
    return {line.strip() for line in printed.splitlines() if any(word in line for word in words)}


def _quick() -> None:
    """Without the description at the end, which reads a store like any other."""
    import mmnar.cli.inspect

    def nothing(store: Path, *, out: Path | None = None) -> None:
        return

    mmnar.cli.inspect.describe = nothing


def of_store(world: World, rng: random.Random) -> Cases:
    kinds = [*world.doors, "eicu", "meds"]
    verbs: tuple[tuple[object, ...], ...] = (("audit",), ("describe",), ("train",), ("evaluate",))
    clean: dict[tuple[str, str], str] = {}
    while True:
        verb = rng.choice(verbs)[0]
        kind = "other" if verb == "evaluate" else rng.choice(kinds)
        yield _read_case(world, rng, world.base / "stores" / kind, str(verb), clean, (kind, str(verb)))


def of_run(world: World, rng: random.Random) -> Cases:
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
        return "traceback or hang", f"{verb}, {what}: status {done.status}: {brief(done)}"
    if done.refused:
        return "refused", ""
    if seen == clean[key]:
        return "equal", ""
    if verb == "audit" and "no manifest beside them" in done.out:
        return "said", ""  # what it could not look at
    return "silent loss", f"{verb}, {what}: {brief(done)}"


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


def of_study(world: World, rng: random.Random) -> Cases:
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
            yield "traceback or hang", f"{what}: status {done.status}: {brief(done)}"
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
            yield "no reason", f"{what}: status {done.status}: {brief(done)}"
        shutil.rmtree(case)


def _nobody() -> None:
    """An engine that makes no runs, so that a changed study costs no training."""
    import mmnar.study.engines.registry as registry

    class Nobody:
        def run(self, jobs: object, ended: object) -> None:
            return

    registry.engine_of = lambda *_: Nobody()
