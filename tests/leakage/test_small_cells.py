"""Attack: whoever reads all that may be passed on computes the counts under ten that no table shows.

The population is built so that small cells hide behind large totals: patterns with 1 to 9 events or patients, a task
that all but a few were asked, a modality that few of the rare patterns have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmnar.dataset.store import make_dataset, write_store
from mmnar.evaluation.atlas import pooled_flows
from mmnar.evaluation.audit import audit, audit_text
from mmnar.evaluation.evaluate import evaluate
from mmnar.evaluation.thresholds import stated
from mmnar.predictions import Predictions
from mmnar.report.atlas import describe
from mmnar.report.build import build_report
from mmnar.roles import Test
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.workflow import train_run

Z = 1.959963984540054
MODALITIES = ("labs", "note", "cxr")
# modalities present -> patients with the first event, without it; of a test fold and of all the others
TEST = {(1, 1, 1): (60, 240), (1, 1, 0): (38, 300), (1, 0, 1): (14, 90), (1, 0, 0): (2, 33), (0, 1, 1): (1, 34),
        (0, 1, 0): (9, 20), (0, 0, 1): (3, 4), (0, 0, 0): (0, 12)}  # fmt: skip
Cells = dict[tuple[int, ...], tuple[int, int]]


@dataclass(frozen=True)
class Shared:
    """All that may be passed on: result.json and describe.json, what is printed, names of files; and, for the
    judges of the attack alone, the predictions behind it.
    """

    result: Any
    atlas: Any
    printed: str
    files: list[str]
    test: Predictions[Any]
    scored: list[Any]


def patients(cells: Cells, first: int, unknown: int) -> dict[str, np.ndarray]:
    """Rows of so many patients; the second task is asked of who has not the first event, ``unknown`` of them aside."""
    bits = np.array([pattern for pattern, (e, n) in cells.items() for _ in range(e + n)], dtype=bool)
    event = np.array([i < e for e, n in cells.values() for i in range(e + n)])
    second = np.random.default_rng(first).random(len(event)) < 0.3
    asked = ~event
    asked[np.flatnonzero(asked)[:unknown]] = False
    return {"present": bits, "labels": np.column_stack([event, second & asked]),
            "asked": np.column_stack([np.ones_like(asked), asked]), "id": first + np.arange(len(event))}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_store(tmp_path_factory.mktemp("planted") / "store")


def planted_store(path: Path) -> Path:
    """A store whose small cells hide behind large totals."""
    rest = {pattern: (6 * e, 6 * n) for pattern, (e, n) in TEST.items()}
    parts = [patients(TEST, 0, 5), patients(rest, 10_000, 0)]
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    rng = np.random.default_rng(0)
    values = {}
    for i, name in enumerate(MODALITIES):
        x = rng.normal(size=(len(joined["id"]), 2)) + joined["labels"][:, :1]
        values[name] = np.where(joined["present"][:, [i]], x, np.nan).astype(np.float32)
    schema = Schema(
        tuple(ModalitySpec(m, (Feature(f"{m}0"), Feature(f"{m}1"))) for m in MODALITIES),
        (Task("death", "at 48 h", "death"), Task("return", "at discharge", "return")),
        ("part", "site"),
    )
    part = np.where(joined["id"] < 10_000, "test", "rest")
    site = np.where(rng.random(len(part)) < 0.02, "rare", np.where(rng.random(len(part)) < 0.5, "north", "south"))
    n = len(part)
    flow = [{"rule": r, "kept": k, "subjects": k, "hindsight": False} for r, k in (("all", n + 3), ("adult", n))]
    ids = joined["id"]
    data = make_dataset(
        schema, values, joined["labels"], joined["asked"], ids, ids, ids, ids, {"part": part, "site": site},
        {"source": "planted", "source_version": "1", "attrition": {"cohort": flow}},
    )  # fmt: skip
    return write_store(path, data)


@pytest.fixture(scope="module")
def shared(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    folder = tmp_path_factory.mktemp("shared")
    words = ("split.by=part", "split.held_out=test", "fits=2")
    runs = [train_run(store, m, folder / "runs" / m, words) for m in ("pattern-only", "logistic-pattern")]
    build_report(runs, folder / "report", resamples=20)
    text, page = describe(store, folder / "atlas")
    assert page is not None
    return Shared(
        json.loads((folder / "report" / "result.json").read_text()),
        json.loads((folder / "atlas" / "describe.json").read_text()),
        "\n".join([text, audit_text(audit(store))]),
        sorted(p.name for p in (folder / "report").iterdir()),
        runs[0].test,
        [(run.name, run.test, run.rectified) for run in runs],
    )


# --- curves -----------------------------------------------------------------------------------------------------------


def curves_of(result: Any) -> Iterator[tuple[str, str, dict[str, Any], float, float]]:
    """task, model, its curves, and how many events and non-events there are."""
    for task, models in result["details"].items():
        counts = result["counts"][task]
        for model, found in models.items():
            if counts["events"] is not None:
                yield task, model, found, counts["events"], counts["n"] - counts["events"]


def test_no_slope_of_a_curve_is_a_ratio_of_small_counts(shared: Shared) -> None:
    """Pieces of one slope hold e events and f others where slope = (e/E) / (f/F): a fraction with a small numerator."""
    read = 0
    for _, _, found, events, others in curves_of(shared.result):
        x, y = (np.array(found["roc"][axis]) for axis in "xy")
        slope = np.diff(y) / np.maximum(np.diff(x), 1e-12) * events / others
        for s in slope[(slope > 1e-9) & (slope < 10)]:
            ratio = Fraction(float(s)).limit_denominator(200)
            assert not (0 < ratio.numerator < 10 and abs(float(ratio) - s) < 1e-9), ratio
        read += 1
    assert read >= 4


def test_no_piece_of_a_curve_holds_few(shared: Shared) -> None:
    for task, model, found, events, others in curves_of(shared.result):
        for size, steps in (
            (events, np.diff(found["roc"]["y"])),
            (others, np.diff(found["roc"]["x"])),
            (events, np.diff(found["pr"]["x"])),
        ):
            counts = np.round(steps * size)
            assert (counts >= 10).all(), (task, model, counts)
        cut = np.array(found["roc"]["y"])[1:] * events, np.array(found["roc"]["x"])[1:] * others
        precision = cut[0] / (cut[0] + cut[1])
        # the corners of both curves are the same, or what lies between them would be few
        np.testing.assert_allclose(found["pr"]["y"][1:], precision, atol=2e-3)
        np.testing.assert_allclose(found["pr"]["x"][1:], found["roc"]["y"][1:], atol=1e-9)
        for rate, low, high in zip(*(found["calibration"][k] for k in ("y", "low", "high")), strict=True):
            # Wilson's width gives n back: half² (1 + z²/n)² = z² (rate (1 − rate) / n + z² / 4n²)
            n = np.arange(1, 3000)
            width = 2 * Z / (1 + Z**2 / n) * np.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
            best = n[np.argmin(abs(width - (high - low)))]
            assert min(rate * best, (1 - rate) * best) > 9, (task, model, best, rate)


# --- thresholds -------------------------------------------------------------------------------------------------------


def cuts_of(found: dict[str, Any], events: int, others: int) -> list[tuple[int, int]]:
    """(with, without the event) above each risk of which anything is told: corners, thresholds, edges of bars."""
    told = {(round(y * events), round(x * others)) for x, y in zip(found["roc"]["x"], found["roc"]["y"], strict=True)}
    for point in found["decided"]["points"]:
        of = {name: e["value"] for name, e in point["figures"].items()}
        if of.get("sensitivity") is not None:
            told.add((round(of["sensitivity"] * events), round((1 - of["specificity"]) * others)))
    above = [0, 0]
    for b in reversed(found["decided"]["risks"]):
        above = [above[0] + round(b["with_event"] * events), above[1] + round(b["without"] * others)]
        told.add((above[0], above[1]))
    return sorted(told)


def test_no_two_risks_of_which_anything_is_told_have_few_between_them(shared: Shared) -> None:
    tables = 0
    for task, model, found, events, others in curves_of(shared.result):
        cuts = cuts_of(found, events, others)
        for (e, f), (more_e, more_f) in pairwise(cuts):
            assert min(more_e - e, more_f - f) >= 10, (task, model, cuts)
        tables += any(p["figures"].get("alerts", {}).get("value") is not None for p in found["decided"]["points"])
    assert tables >= 3


def test_net_benefit_at_close_thresholds_is_not_told(shared: Shared) -> None:
    """Of n · NB(t) = TP − FP t / (1 − t) at many thresholds, an attacker solves for TP and FP at each. The figures that
    nobody withheld would give some of the differences away.
    """
    p: Predictions[Any] = shared.test
    risk, y, asked = p.task("death")
    at = shared.result["decisions"]["death"]
    of = shared.result["details"]["death"]["pattern-only"]["decided"]["points"]
    told = [q["threshold"] for q in of if q["figures"]["net_benefit"]["value"] is not None]
    everything = [t for t, _ in at["everyone"]]
    assert set(told) <= {q["threshold"] for q in of}

    def between(thresholds: list[float]) -> list[tuple[int, int]]:
        edges = [-1.0, *sorted(thresholds), 2.0]
        inside = [asked & (risk >= a) & (risk < b) for a, b in pairwise(edges)]
        return [(int((i & y).sum()), int((i & ~y).sum())) for i in inside]

    assert all(cell == (0, 0) or min(cell) >= 10 for cell in between(told))
    # the attack has teeth
    assert any(0 < e < 10 or 0 < f < 10 for e, f in between(everything))


def test_rates_by_group_leave_no_small_cell(shared: Shared) -> None:
    """A group's rate and its counts tell how many of it have an alert; the total less those, how many of the others."""
    read = 0
    for task, _, found, events, others in curves_of(shared.result):
        main = shared.result["decisions"][task]["main"]
        of = next(p["figures"] for p in found["decided"]["points"] if p["threshold"] == main)
        for attribute, fair in found["decided"]["fairness"].items():
            counts = {row["group"]: (row["events"], row["n"]) for row in found["subgroups"][attribute]}
            total = (
                [round(of["sensitivity"]["value"] * events), round((1 - of["specificity"]["value"]) * others)]
                if fair["rows"]
                else []
            )
            left = [*total, events - total[0], others - total[1]] if total else []
            for row in fair["rows"]:
                e, n = counts.get(row["group"], (None, None))
                if e is None:
                    continue
                hits = round(row["rates"]["sensitivity"]["value"] * e)
                false = round(row["rates"]["false_alarms"]["value"] * (n - e))
                cells = [hits, false, e - hits, n - e - false]
                assert min(cells) >= 10, (task, attribute, row, cells)
                left = [a - b for a, b in zip(left, cells, strict=True)]
                read += 1
            assert all(v == 0 or v >= 10 for v in left), (task, attribute, left)
    assert read >= 2


def test_nobody_is_told_of_by_what_a_rectifier_changes(shared: Shared) -> None:
    """Where offsets have one sign, those above a threshold after the rectifier hold those above it before: a difference
    of two figures is a count.
    """
    read = 0
    for (name, base, rectified), task in product(shared.scored, shared.test.tasks):
        (p, y, asked), q = base.task(task), rectified.task(task)[0]
        of = [shared.result["details"][task][n]["decided"]["points"] for n in (name, f"{name}+rectifier")]
        told = [[x["threshold"] for x in points if x["figures"]["net_benefit"]["value"] is not None] for points in of]
        for t, u in product(*told):
            before, after = asked & (p >= t), asked & (q >= u)
            if after.any() and after.sum() < asked.sum():
                sides = [side & (y == of) for side in (before & ~after, after & ~before) for of in (True, False)]
                assert not any(0 < side.sum() < 10 for side in sides), (name, task, t, u)
                read += 1
    assert read >= 3


def test_who_is_decided_otherwise_is_no_small_group(shared: Shared) -> None:
    """With the sizes of the tables, a share of patients is a count: of who has a modality, or of everybody asked."""
    p: Predictions[Any] = shared.test
    read = 0
    for task, models in shared.result["details"].items():
        asked = p.task(task)[2]
        for model, found in models.items():
            of = found["decided"]
            if of["spread"] is None:
                continue
            shares = [(of["spread"]["divided"], asked)]
            shares += [(h["flipped"], asked & p.present[:, MODALITIES.index(h["modality"])]) for h in of["hidden"]]
            for share, who in shares:
                if model.startswith("pattern-only"):
                    assert share["value"] is None
                elif share["value"] is not None:
                    count = round(share["value"] * who.sum())
                    assert count == 0 or 10 <= count <= who.sum() - 10 or count == who.sum(), (task, model, count)
                    read += 1
    assert read >= 3


def numbers_that_fit(shares: list[float], digits: int, most: int) -> list[int]:
    """Totals of which every share is a whole number of patients, as far as its decimals tell."""
    v = np.array(shares)
    return [k for k in range(10, most) if (abs(np.round(v * k) - v * k) <= 0.5 * 10**-digits * k + 1e-9).all()]


def test_decimals_do_not_tell_how_many_were_asked_of_all_but_a_few(draw: Any) -> None:
    """Four decimals of twenty corners fit one number of patients alone."""
    p = draw(700, Test, tasks=("death",))
    asked = np.ones_like(p.label_mask)
    asked[np.flatnonzero(~p.labels[:, 0])[:5]] = False
    result = evaluate(replace(p, label_mask=asked), resamples=20, thresholds={"death": stated([0.2], "death")})
    found = result.to_dict()["details"]["death"]["made_up"]
    assert found["decided"]["coarse"]
    others = int((asked[:, 0] & ~p.labels[:, 0]).sum())
    exact = result.tasks["death"]["made_up"].roc.x
    assert numbers_that_fit(list(exact), 4, 700) == [others]
    assert len(numbers_that_fit(found["roc"]["x"], 2, 700)) > 100
    assert {
        len(repr(e["value"]).partition(".")[2])
        for q in found["decided"]["points"]
        for e in q["figures"].values()
        if e["value"]
    } <= {1, 2}


# --- totals -----------------------------------------------------------------------------------------------------------


def test_no_total_less_what_is_shown_is_few(shared: Shared) -> None:
    for task, models in shared.result["details"].items():
        counts = shared.result["counts"][task]
        for found in models.values():
            for rows in (found["patterns"], *found["subgroups"].values()):
                for key in ("n", "events"):
                    shown = [row[key] for row in rows]
                    assert not any(0 < v < 10 for v in shown if v is not None)
                    if counts[key] is not None:
                        left = counts[key] - sum(v for v in shown if v is not None)
                        assert left == 0 or left >= 10, (task, key, left)
                assert not any(0 < r["n"] - r["events"] < 10 for r in rows if None not in (r["n"], r["events"]))


def test_no_two_tasks_tell_together_what_neither_tells(shared: Shared) -> None:
    """One task is asked of those alone whom the other's event spared: the difference of two sizes is a small count."""
    first, second = (shared.result["details"][task]["pattern-only"]["patterns"] for task in ("death", "return"))
    sizes = {row["group"]: row["n"] for row in first}
    for row in second:
        if row["n"] is not None and sizes.get(row["group"]) is not None:
            assert not 0 < abs(sizes[row["group"]] - row["n"]) < 10, row["group"]
    atlas = shared.atlas["atlas"]
    everyone = {name: of["n"] for name, of in atlas["outcomes"].items()}
    assert not any(0 < atlas["samples"] - n < 10 for n in everyone.values() if n is not None)
    for row in atlas["patterns"]:
        for of in row["outcomes"].values():
            assert of["n"] is None or row["n"] is None or not 0 < row["n"] - of["n"] < 10


def test_no_share_less_the_patterns_that_have_it_is_few(shared: Shared) -> None:
    atlas = shared.atlas["atlas"]
    shown = [row for row in atlas["patterns"] if row["present"] is not None]
    for row in atlas["modalities"]:
        if row["present"]["value"] is not None:
            have = round(row["present"]["value"] * atlas["samples"])
            left = have - sum(r["n"] for r in shown if row["name"] in r["present"])
            lack = atlas["samples"] - have - sum(r["n"] for r in shown if row["name"] not in r["present"])
            assert all(n == 0 or n >= 10 for n in (left, lack)), (row["name"], left, lack)


def test_no_step_of_attrition_leaves_out_few(shared: Shared) -> None:
    for page in (shared.result["provenance"]["report"], shared.atlas):
        known = [page["atlas"]["samples"], *(s["kept"] for steps in page["attrition"].values() for s in steps)]
        assert not any(0 < abs(a - b) < 10 for a in known for b in known)


def test_what_is_printed_has_no_small_count(shared: Shared) -> None:
    assert not re.findall(r"\b[1-9] (?:of|patients|subjects|samples|events|rows)\b", shared.printed)


def test_offsets_are_shown_of_large_groups_alone(shared: Shared) -> None:
    """An offset and its standard error give the size and the events of a pattern back."""
    for run in shared.result["provenance"]["report"]["runs"]:
        for fitted in run["rectifier"].values():
            for offset in fitted["offsets"]:
                assert offset["n"] % 10 == offset["events"] % 10 == 0
                assert min(offset["events"], offset["n"] - offset["events"]) >= 10


def test_no_patient_is_in_a_report(shared: Shared) -> None:
    assert shared.files == ["report.html", "result.json"]


# --- integer constraints ----------------------------------------------------------------------------------------------


def spreads(auroc: float, digits: int, cells: Cells, risk: dict[tuple[int, ...], float], alone: set[Any]) -> Any:
    """pattern -> events it may have, for an attacker who knows the size of every pattern, the events of those shown,
    the sum of the others and the order of the risks: all assignments that give the printed AUROC.
    """
    hidden = [p for p in cells if p not in alone]
    size = {p: sum(cells[p]) for p in cells}
    left = sum(cells[p][0] for p in hidden)
    events, others = (sum(c[side] for c in cells.values()) for side in (0, 1))
    order = sorted(cells, key=lambda p: risk[p])
    found: dict[Any, set[int]] = {p: set() for p in hidden}
    for some in product(*(range(min(size[p], left) + 1) for p in hidden[:-1])):
        last = left - sum(some)
        if not 0 <= last <= size[hidden[-1]]:
            continue
        e = {p: cells[p][0] for p in alone} | dict(zip(hidden, (*some, last), strict=True))
        below = right = 0.0
        for p in order:
            f = size[p] - e[p]
            right += e[p] * (below + f / 2)
            below += f
        if abs(right / (events * others) - auroc) <= 0.5 * 10**-digits + 1e-12:
            for p, count in e.items():
                if p in found:
                    found[p].add(count)
    return found


def test_enumeration_of_all_that_fits_leaves_every_small_count_open(shared: Shared) -> None:
    p: Predictions[Any] = shared.test
    y = p.task("death")[1]
    risk = {pattern: float(p.proba[(p.present == np.array(pattern, bool)).all(axis=1), 0].mean()) for pattern in TEST}
    names = {
        " + ".join(m for m, there in zip(MODALITIES, q, strict=True) if there) or "nothing observed": q for q in TEST
    }
    rows = shared.result["details"]["death"]["pattern-only"]["patterns"]
    alone = {names[row["group"]] for row in rows if row["group"] in names and row["events"] is not None}
    exact = roc_auc_score(y, p.proba[:, 0])
    printed = shared.result["tasks"]["death"]["pattern-only"]["auroc"]["value"]
    digits = len(repr(printed).partition(".")[2])
    assert abs(printed - exact) <= 0.5 * 10**-digits
    told = spreads(printed, digits, TEST, risk, alone)
    for pattern, possible in told.items():
        assert TEST[pattern][0] in possible
        assert len(possible) >= 4, (pattern, possible)
    # the attack has teeth: fifteen digits leave less than half of it
    sharp = spreads(exact, 15, TEST, risk, alone)
    assert sum(map(len, sharp.values())) < 0.5 * sum(map(len, told.values()))


def test_attrition_of_two_flows_is_held_together() -> None:
    def flow(*kept: int) -> list[dict[str, Any]]:
        return [{"rule": str(i), "kept": k, "subjects": k} for i, k in enumerate(kept)]

    shown = pooled_flows(
        {"samples": 300, "attrition": {"cohort": flow(400, 300), "a": flow(300, 200), "b": flow(300, 197)}}
    )
    numbers = [step["kept"] for steps in shown.values() for step in steps]
    assert not any(0 < abs(a - b) < 10 for a in numbers for b in numbers)
