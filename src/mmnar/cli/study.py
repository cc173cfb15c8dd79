"""Verb: study."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mmnar.cli.apps import app, writes_out
from mmnar.errors import ConfigError
from mmnar.shipped import listing, named

if TYPE_CHECKING:
    from mmnar.study.result import StudyResult


@app.command
@writes_out
def study(
    spec: str = "",
    *,
    out: Path | None = None,
    show: bool = False,
    data: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    demo: bool = False,
    engine: Literal["local", "slurm", "ray"] = "local",
    jobs: int = 1,
    option: tuple[str, ...] = (),
    mirror: tuple[str, ...] = (),
) -> None:
    """A table of runs – data × method × setting × fold × seed – and its report. Started again, it goes on.
    Without a name: the studies that come with the package.

    Args:
        spec: The study: the path of a YAML file, or the name of one that comes with the package, e.g. table1.
        out: Folder of the study: its runs, searches and report.
        show: Print the study's file, to copy and edit, and stop.
        data: NAME=PATH of a prepared store for a data set that the study names.
        only: Data sets to run on; all where none is named.
        demo: The study's smallest honest size, on simulated patients.
        engine: Processes of this machine, a Slurm cluster (needs the extra 'slurm') or a Ray cluster (extra 'ray').
        jobs: At the same time, on this machine.
        option: KEY=VALUE of the engine: slurm_partition=gpu timeout_min=120 (Slurm), address=HOST:PORT cpus=2 (Ray).
        mirror: tensorboard=FOLDER (needs the extra 'tensorboard') or mlflow=ADDRESS (extra 'mlflow'): finished runs are
            shown there too, their settings, losses and cost, never their test scores.
    """
    if not spec:
        print(listing("studies"))
        return
    path = named("studies", spec)
    if show:
        print(path.read_text(encoding="utf-8"), end="")
        return
    if out is None:
        raise ConfigError("--out", "a folder for the study's runs and report", "none", f"add --out {path.stem}")
    from mmnar.report.study.page import study_text
    from mmnar.study.driver import run_study
    from mmnar.study.engines.registry import engine_of
    from mmnar.study.mirrors import Mirrored, mirror_of
    from mmnar.study.progress import Console
    from mmnar.study.result import judge
    from mmnar.study.saved import save_slim
    from mmnar.study.spec import read_study

    stores = dict(_named("--data", word) for word in data)
    asked = read_study(path, demo=demo, stores=stores, only=only)
    options = dict(_named("--option", word) for word in option)
    progress = Mirrored(Console(), [mirror_of(*_named("--mirror", word), asked.title) for word in mirror])
    done = run_study(asked, out, engine_of(engine, jobs, out, options), progress)
    for job in done.plan.jobs.values():  # also those that were finished before
        progress.show(job)
    progress.say(f"judging {len(done.plan.jobs)} runs with {asked.resamples} resamples of patients")
    result = judge(done).disclosed()
    result.save(out / "result.json")
    save_slim(result, out / "slim.json")
    print(study_text(result))
    _write(result, out)
    if result.failures:
        for label, error, trace in result.failures:
            print(f"FAILED {label}: {error}\n{trace}", file=sys.stderr)
        sys.exit(1)


@app.command
@writes_out
def study_page(result: Path, *, out: Path) -> None:
    """The report of a study from its saved result alone, without its runs.

    Args:
        result: result.json or slim.json of a study.
        out: Folder for report.html and tables.md.
    """
    from mmnar.study.saved import load_result

    saved = load_result(result)
    out.mkdir(parents=True, exist_ok=True)
    _write(saved, out)


def _write(result: StudyResult, out: Path) -> None:
    from mmnar.report.study.page import write_study

    page, tables = write_study(result, out)
    print(f"report: {page}\ntables: {tables}")


def _named(what: str, word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not value:
        raise ConfigError(f"{what} '{word}'", "KEY=VALUE", "something else", "write --data eicu=stores/eicu, say")
    return name, value
