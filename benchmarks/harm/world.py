"""Small inputs of every door, and the stores, run and study made of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harm.calls import Outcome, call

QUICK = ("train.max_epochs=2", "train.min_steps=0", "train.checkpoint_seconds=0", "model.width=8", "fits=2")
TRAIN = ("--model", "zero-fill")


@dataclass
class World:
    """Where everything lies.

    Args:
        base: Folder of it all.
        doors: Verb of ``prepare`` → (folder of its inputs, the arguments with that folder as ``{}``).
    """

    base: Path
    doors: dict[str, tuple[Path, list[str]]] = field(default_factory=dict)
    numbers: int = 0

    def place(self, what: str = "x") -> Path:
        """A name that nobody has."""
        self.numbers += 1
        return self.base / "cases" / f"{what}{self.numbers}"

    def prepare(self, door: str, inputs: Path, out: Path) -> list[object]:
        """Arguments of ``prepare`` from a copy of a door's inputs; patients who do not exist need none."""
        if door == "synthetic":
            return ["prepare", door, "--patients", 200, "--seed", 7, "--out", out]
        return ["prepare", door, *(word.format(inputs) for word in self.doors[door][1]), "--out", out]

    def run(self, arguments: list[object]) -> Outcome:
        """A call that must succeed."""
        found = call(arguments, self.base / "log")
        assert found.status == 0, (arguments, found)
        return found

    @property
    def store(self) -> Path:
        return self.base / "stores" / "table"

    @property
    def other(self) -> Path:
        return self.base / "stores" / "other"

    @property
    def trained(self) -> Path:
        return self.base / "run"

    @property
    def study(self) -> Path:
        return self.base / "study" / "study.yaml"

    @property
    def studied(self) -> Path:
        return self.base / "studied"


def build(base: Path, patients: int, large: bool) -> World:
    """Make it all.

    Args:
        large: Also the doors whose inputs take longest.
    """
    world = World(base)
    for name in ("cases", "stores", "study"):
        (base / name).mkdir(parents=True)
    _own_table(base / "table", 240)
    _own_table(base / "table2", 200, seed=1, first=5000)
    world.run(["simulate", "eicu", "--patients", patients, "--out", base / "eicu"])
    if large:
        _physionet(base / "physionet", patients)
        world.run(["simulate", "mimic-iv", "--patients", patients, "--out", base / "mimic"])
    notes = ["--notes", "{}/mimic-iv-note/2.2", "--notes-encoder", "hashing"]
    cxr = ["--cxr", "{}/mimic-cxr-jpg/2.1.0"]
    embeddings = ["--embeddings", "{}/generalized-image-embeddings-for-the-mimic-chest-x-ray-dataset-1.0"]
    world.doors = {
        "table": (base / "table", ["{}/spec.yaml"]),
        "physionet2012": (base / "physionet", ["--root", "{}"]),
        "eicu": (base / "eicu", ["--root", "{}/eicu-collaborative-research-database/2.0"]),
        "mimic-iv": (base / "mimic", ["--root", "{}/mimiciv/3.1", *notes, *cxr, *embeddings]),
    }
    world.doors = {door: of for door, of in world.doors.items() if of[0].exists()}
    for door, (inputs, _) in list(world.doors.items()):
        world.run(world.prepare(door, inputs, base / "stores" / door))
    world.run(["prepare", "table", base / "table2" / "spec.yaml", "--out", world.other])
    _meds(base / "meds", base / "stores" / "eicu", world)
    world.doors["meds"] = (base / "meds", ["--root", "{}/data_set", "--labels", "{}/labels"])
    world.run(world.prepare("meds", base / "meds", base / "stores" / "meds"))
    world.run(["train", world.store, *QUICK, *TRAIN, "--out", world.trained])
    study = {
        "title": "Two rows",
        "data": {"own": {"store": str(world.store)}},
        "rows": {"pattern-only": {}, "zero-fill": {"rectified": True}},
        "folds": 2,
        "seeds": [0],
        "deep": dict(word.split("=") for word in QUICK[:4]),
        "set": {"fits": 2},
        "metrics": ["auroc", "brier"],
        "controls": ["pattern-only"],
        "resamples": 20,
    }
    world.study.write_text(yaml.safe_dump(study, sort_keys=False))
    assert call(["study", world.study, "--out", world.studied], base / "log", before=_in_process).status == 0
    return world


def _own_table(folder: Path, rows: int, seed: int = 0, first: int = 1000) -> None:
    """A table of vital signs, laboratory values and a unit; two outcomes."""
    rng = random.Random(seed)
    folder.mkdir()
    lines = ["subject_id,prediction_time,hr,map,lactate,ph,unit,sex,death,return"]
    for i in range(rows):
        ill = rng.gauss(0, 1)
        vital = [f"{80 + 12 * ill + rng.gauss(0, 8):.1f}", f"{75 - 8 * ill + rng.gauss(0, 6):.1f}"]
        labs = [f"{2 + 0.8 * ill + abs(rng.gauss(0, 1)):.2f}", f"{7.4 - 0.05 * ill + rng.gauss(0, 0.05):.3f}"]
        labs = labs if rng.random() < 0.5 + 0.2 * (ill > 0) else ["", ""]
        vital = vital if rng.random() < 0.9 else ["", ""]
        outcomes = [str(int(rng.gauss(ill, 1) > 0.7)), str(int(rng.gauss(-ill, 1) > 0.6))]
        when = f"2150-01-{1 + i % 28:02d} 08:00:00"
        row = [str(first + i), when, *vital, *labs, rng.choice(("micu", "sicu", "ccu")), rng.choice("FM"), *outcomes]
        lines.append(",".join(row))
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    spec = {
        "name": "own",
        "files": ["rows.csv"],
        "subject": "subject_id",
        "prediction_time": "prediction_time",
        "outcomes": {"death": "death", "return": "return"},
        "modalities": {"vitals": ["hr", "map"], "labs": ["lactate", "ph"], "ward": ["unit"]},
        "attributes": ["sex"],
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))


def _physionet(folder: Path, records: int) -> None:
    """Set a of the challenge: a file a stay, and the outcomes."""
    rng = random.Random(0)
    (folder / "set-a").mkdir(parents=True)
    outcomes = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
    for i in range(records):
        number, ill = 132539 + i, rng.gauss(0, 1)
        lines = ["Time,Parameter,Value", f"00:00,RecordID,{number}", f"00:00,Age,{60 + rng.randrange(30)}"]
        lines += [f"00:00,Gender,{rng.randrange(2)}", "00:00,Height,170", "00:00,ICUType,3", "00:00,Weight,80"]
        for hour in range(0, 48, 6):
            lines.append(f"{hour:02d}:07,HR,{80 + 10 * ill + rng.gauss(0, 5):.0f}")
            if rng.random() < 0.4:
                lines.append(f"{hour:02d}:30,Lactate,{2 + max(0, ill + rng.gauss(0, 1)):.1f}")
        (folder / "set-a" / f"{number}.txt").write_text("\n".join(lines) + "\n")
        died = int(rng.gauss(ill, 1) > 0.7)
        outcomes.append(f"{number},10,5,{5 + rng.randrange(9)},{-1 if not died else 9},{died}")
    (folder / "Outcomes-a.txt").write_text("\n".join(outcomes) + "\n")


def _meds(folder: Path, store: Path, world: World) -> None:
    """The events of a store as anybody's MEDS data set, with its labels."""
    import shutil

    world.run(["train", store, "rectifier.rule=none", "--model", "pattern-only", "--out", world.base / "for_meds"])
    world.run(["export", world.base / "for_meds", "--out", folder])
    events = store / "events" / "meds"
    for part in ("data", "metadata"):
        shutil.copytree(events / part, folder / "data_set" / part)
    shutil.rmtree(folder / "predictions")
    shutil.rmtree(folder / "metadata")
    (folder / "predictions_full.parquet").unlink()


def _in_process() -> None:
    """An engine that starts no processes: they would import everything again."""
    import mmnar.study.engines.registry as registry
    from mmnar.study.work import do

    class InProcess:
        def run(self, jobs: list[Any], ended: Callable[[Any], None]) -> None:
            for job in jobs:
                do(job)
                ended(job)

    registry.engine_of = lambda *_: InProcess()  # type: ignore[assignment]
