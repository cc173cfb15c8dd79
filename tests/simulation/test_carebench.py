"""The world of CareBench: exact risks by brute force, what tells what, and tables in which a stranger finds it."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mmnar
from mmnar import cli
from mmnar.errors import ConfigError
from mmnar.simulation.carebench.law import FILM, LATENTS, Drawn, draw, risks_of
from mmnar.simulation.carebench.outcomes import LENGTHS, MORTALITY, OUTCOMES, PHENOTYPES
from mmnar.simulation.carebench.release import ATTRITION, TOLD_BY, write_carebench
from mmnar.simulation.carebench.stays import NOISIER_RACE, Admitted
from mmnar.simulation.mimic_iv.cxr import WIDTH
from mmnar.simulation.mimic_iv.release import CXR, EMBEDDINGS, IV, NOTES, TRUTH
from mmnar.simulation.risks import exact_risks

KINDS = {
    kind: [k for k, p in enumerate(PHENOTYPES) if p.told_by == kind] for kind in ("series", "order", "film", "both")
}
LENGTHS_AT = slice(len(OUTCOMES) - len(LENGTHS), len(OUTCOMES))
HOUR = pl.duration(hours=1)
GROUPS = Path(mmnar.__file__).parent / "sources" / "codes" / "phenotypes.csv"
"""The groups of HCUP, made without a look at the simulator's codes."""


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw(np.random.default_rng(0).random(3000) < 0.4, seed=3)


@pytest.fixture(scope="module")
def risks(drawn: Drawn) -> np.ndarray:
    return risks_of(drawn)


# --- the law ----------------------------------------------------------------------------------------------------------


def _by_brute_force(d: Drawn, who: int, rng: np.random.Generator) -> np.ndarray:
    """(33,) Draws of the latents given what is seen (by the joint covariance of latents and contents), weighed by how
    likely they make it that there is a film; outcomes by their definitions."""
    seen = [0, 1] if d.present[who, 1] else [0]
    noise = {0: 2.0, 1: 6.0 if d.noisy[who] else 2.0}
    w = np.concatenate([d.world.loadings[m] for m in seen])
    variance = np.repeat([noise[m] ** 2 for m in seen], 5)
    x = np.concatenate([d.content[who, m] for m in seen])
    gain = w.T @ np.linalg.inv(w @ w.T + np.diag(variance))
    h = rng.multivariate_normal(gain @ x, np.eye(LATENTS) - gain @ w, 100_000)
    film = expit(d.policy.offsets[0, 1] + d.policy.slopes[0] * h[:, 0])
    weight = film if d.present[who, 1] else 1 - film
    of = d.world
    score = of.intercepts + h @ of.slopes.T + d.order[who] * of.ordered
    score[:, OUTCOMES.index(MORTALITY)] += of.eta * (1 if d.present[who, 1] else -1)
    risk = expit(score)
    for number, k in enumerate(KINDS["both"]):
        low, high = of.bounds[number]
        risk[:, k] = low + (high - low) * expit(10 * (h @ of.left[number]) * (h @ of.right[number]))
    risk[:, LENGTHS_AT] = softmax(score[:, LENGTHS_AT], axis=1)
    return weight @ risk / weight.sum()


def test_exact_risks_equal_brute_force(drawn: Drawn, risks: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    film, noisy = drawn.present[:, 1], drawn.noisy
    for group in (film & noisy, film & ~noisy, ~film & noisy, ~film & ~noisy):
        for who in np.flatnonzero(group)[:3]:
            np.testing.assert_allclose(risks[who], _by_brute_force(drawn, who, rng), atol=0.012)


def test_risks_are_calibrated_in_every_group(drawn: Drawn, risks: np.ndarray) -> None:
    film, noisy = drawn.present[:, 1], drawn.noisy
    np.testing.assert_allclose(risks[:, LENGTHS_AT].sum(axis=1), 1)
    assert (drawn.labels[:, LENGTHS_AT].sum(axis=1) == 1).all()
    for group in (film & noisy, film & ~noisy, ~film, drawn.order > 0, drawn.order < 0):
        y, p = drawn.labels[group], risks[group]
        for half in (p >= np.median(p, axis=0), p < np.median(p, axis=0)):
            z = ((y - p) * half).sum(axis=0) / np.sqrt((p * (1 - p) * half).sum(axis=0) + 1e-9)
            assert np.abs(z).max() < 4.5  # 330 numbers
    for k, phenotype in enumerate(PHENOTYPES):
        assert risks[:, k].mean() == pytest.approx(phenotype.prevalence, abs=0.03), phenotype.name


def test_each_kind_is_told_by_its_own_modality_alone(drawn: Drawn) -> None:
    """Spread of the exact risks of whoever sees only one of record and film."""
    rows = np.flatnonzero(drawn.present[:, 1] & ~drawn.noisy & (drawn.order > 0))[:200]
    spread = {}
    for name, seen in (("series", [True, False]), ("film", [False, True])):
        d = drawn.take(rows)
        p = exact_risks(d.world, d.policy, d.content, d.present, range(25), seen=np.array(seen), points=1024)
        spread[name] = p.std(axis=0)
    assert (spread["series"][KINDS["series"]] > 0.15).all()
    assert (spread["film"][KINDS["film"]] > 0.12).all()
    for told, others in (("series", ("film", "both", "order")), ("film", ("series", "both", "order"))):
        assert max(spread[told][KINDS[kind]].max() for kind in others) < 0.01


def test_what_the_exact_risks_reach(drawn: Drawn, risks: np.ndarray) -> None:
    def auroc(kind: str, rows: np.ndarray) -> float:
        return float(np.mean([roc_auc_score(drawn.labels[rows, k], risks[rows, k]) for k in KINDS[kind]]))

    film, noisy = drawn.present[:, 1], drawn.noisy
    for kind, low in (("series", 0.86), ("order", 0.83), ("film", 0.85), ("both", 0.78)):
        assert auroc(kind, film & ~noisy) > low, kind
    assert auroc("series", ~film) > 0.86
    assert abs(auroc("film", ~film) - 0.5) < 0.04
    assert abs(auroc("both", ~film) - 0.5) < 0.04
    # the gap to be found: whose films are noisier
    assert auroc("film", film & noisy) < auroc("film", film & ~noisy) - 0.02
    assert abs(auroc("series", noisy) - auroc("series", ~noisy)) < 0.02


# --- the tree ---------------------------------------------------------------------------------------------------------


class Tree:
    """A written tree, read like a stranger: text files only."""

    def __init__(self, root: Path, admitted: Admitted) -> None:
        self.root, self.admitted = root, admitted
        self.truth = pl.read_parquet(root / TRUTH)
        self.attrition = pl.read_parquet(root / ATTRITION)
        self.read: dict[str, pl.DataFrame] = {}

    def table(self, name: str) -> pl.DataFrame:
        if name not in self.read:
            folder = self.root / (NOTES if name == "discharge" else IV)
            text = {"icd_code": pl.String} | ({"value": pl.String} if name == "chartevents" else {})
            table = pl.read_csv(
                next(folder.rglob(f"{name}.csv.gz")),
                infer_schema_length=None,
                schema_overrides=text,
            )
            times = [c for c in table.columns if c.endswith("time") and table[c].dtype == pl.String]
            self.read[name] = table.with_columns(pl.col(times).str.to_datetime("%Y-%m-%d %H:%M:%S"))
        return self.read[name]

    def stays(self) -> pl.DataFrame:
        """Every unit stay with its admission."""
        return self.table("icustays").join(self.table("admissions"), ["subject_id", "hadm_id"]).sort("stay_id")

    def charted(self, *items: int) -> pl.DataFrame:
        """Rows of the first 48 hours of the base cohort, with ``hours`` since unit admission."""
        base = self.stays().join(self.truth.select("stay_id"), "stay_id").select("stay_id", "intime")
        rows = self.table("chartevents").filter(pl.col("itemid").is_in(items)).join(base, "stay_id")
        hours = (pl.col("charttime") - pl.col("intime")).dt.total_minutes() / 60
        return rows.with_columns(hours=hours).filter(
            pl.col("hours") < 48, pl.col("storetime") < pl.col("intime") + 48 * HOUR
        )

    def films(self) -> pl.DataFrame:
        """Images of stays, one row per pair within 60 hours of unit admission."""
        meta = pl.read_csv(self.root / CXR / "mimic-cxr-2.0.0-metadata.csv.gz")
        clock = pl.col("StudyTime").cast(pl.Int64).cast(pl.String).str.zfill(6)
        time = (pl.col("StudyDate").cast(pl.String) + clock).str.to_datetime("%Y%m%d%H%M%S")
        pairs = meta.with_columns(time=time).join(self.stays().select("subject_id", "stay_id", "intime"), "subject_id")
        hours = (pl.col("time") - pl.col("intime")).dt.total_minutes() / 60
        return pairs.with_columns(hours=hours).filter(pl.col("hours").abs() <= 60)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    root = tmp_path_factory.mktemp("trees") / "care"
    return Tree(root, write_carebench(root, 700, seed=5))


def test_the_rules_leave_out_whom_they_should(tree: Tree) -> None:
    stays = tree.stays()
    coded = tree.table("diagnoses_icd")["hadm_id"].unique()
    lasts = pl.col("outtime") - pl.col("intime")
    rules = {
        "uncoded": pl.col("hadm_id").is_in(coded.implode()),
        "impossible times": pl.col("admittime") <= pl.col("intime"),
        "under 6 h": lasts >= 6 * HOUR,
        "planned": ~pl.col("admission_type").is_in(["ELECTIVE", "SURGICAL SAME DAY ADMISSION"]),
        "second stay": pl.col("intime").rank("ordinal").over("hadm_id") == 1,
        "under 48 h": lasts >= 48 * HOUR,
    }
    left, lost = stays, {}
    for name, rule in rules.items():
        kept = left.filter(rule)
        lost[name], left = left.height - kept.height, kept
    expected = dict(tree.attrition.drop_nulls().group_by("left_out").len().iter_rows())
    assert lost == expected
    assert min(lost.values()) >= 10
    assert set(left["stay_id"]) == set(tree.attrition.filter(pl.col("left_out").is_null())["stay_id"])
    assert set(left["stay_id"]) == set(tree.truth["stay_id"])
    assert stays.height == tree.attrition.height
    # some last to the very minute
    for minutes in (6 * 60 - 1, 6 * 60, 48 * 60 - 1, 48 * 60, 72 * 60):
        assert (stays["outtime"] - stays["intime"]).dt.total_minutes().is_in([minutes]).any(), minutes
    # patients come back, and their second admission counts
    assert tree.truth["subject_id"].n_unique() < tree.truth.height
    assert tree.table("discharge")["hadm_id"].is_in(stays["hadm_id"].implode()).all()
    assert set(tree.table("discharge")["hadm_id"]) == set(stays["hadm_id"])


def test_being_in_the_cohort_tells_nothing(tree: Tree) -> None:
    kept, latent = tree.admitted.broken == "", tree.admitted.drawn.latent
    difference = latent[kept].mean(axis=0) - latent[~kept].mean(axis=0)
    assert (np.abs(difference) < 4 * np.sqrt(1 / kept.sum() + 1 / (~kept).sum())).all()


def test_labels_are_those_of_the_tables(tree: Tree) -> None:
    stays = tree.truth.select("stay_id").join(tree.stays(), "stay_id", maintain_order="left")
    assert stays["hospital_expire_flag"].cast(pl.Boolean).to_list() == tree.truth[f"label:{MORTALITY}"].to_list()
    asked = pl.col("intime") + 48 * HOUR
    dead = stays.filter(pl.col("deathtime").is_not_null())
    assert dead.filter(pl.col("deathtime") <= asked).is_empty()
    assert (dead["deathtime"] == dead["dischtime"]).all()
    assert (stays["dischtime"] >= stays["outtime"]).all()
    # nobody leaves hospital, alive or dead, before all films around the window are taken
    assert stays.filter(pl.col("dischtime") < pl.col("intime") + 54 * HOUR).is_empty()
    days = (stays["outtime"] - stays["intime"]).dt.total_minutes() / (24 * 60)
    for name, (low, high) in LENGTHS.items():
        inside = (days >= low) & (days < (high or 1e9))
        assert inside.to_list() == tree.truth[f"label:{name}"].to_list(), name


def _billed(codes: pl.DataFrame, prefixes: dict[int, list[str]]) -> set[int]:
    found: set[int] = set()
    for version, of in prefixes.items():
        mine = codes.filter(pl.col("icd_version") == version)
        whole = [p[1:] for p in of if p.startswith("=")]
        begins = pl.any_horizontal(pl.col("icd_code").str.starts_with(p) for p in of if not p.startswith("="))
        found |= set(mine.filter(begins | pl.col("icd_code").is_in(whole))["hadm_id"])
    return found


def test_codes_are_those_of_the_benchmarks_groups(tree: Tree) -> None:
    groups = pl.read_csv(GROUPS, schema_overrides={"icd9": pl.String})
    codes = tree.table("diagnoses_icd")
    assert {p.name for p in PHENOTYPES} == {name.lower() for name in groups["phenotype"]}
    sloppy = 0
    for row in groups.iter_rows(named=True):
        prefixes = {9: row["icd9"].split(";"), 10: row["icd10"].split(";")}
        label = tree.truth[f"label:{row['phenotype'].lower()}"].to_list()
        billed = _billed(codes, prefixes)
        assert [h in billed for h in tree.truth["hadm_id"]] == label, row["phenotype"]
        short = _billed(codes, {v: [p.strip("=")[:3] for p in of] for v, of in prefixes.items()})
        sloppy += len(short) > len(billed)
    assert sloppy >= 5  # decoys catch who looks at three characters
    e878 = codes.filter(pl.col("icd_code").str.starts_with("E878"))
    assert set(e878["icd_version"]) == {9}  # and who forgets the version: E878 of ICD-10 is a phenotype's
    assert codes["icd_code"].str.starts_with("0").any()


def test_versions_change_in_october_2015(tree: Tree) -> None:
    people = tree.table("patients").select("subject_id", "anchor_year", "anchor_year_group")
    admitted = tree.table("admissions").select("subject_id", "hadm_id", "admittime").join(people, "subject_id")
    middle = pl.col("anchor_year_group").str.slice(0, 4).cast(pl.Int64) + 1
    year = pl.col("admittime").dt.year() - pl.col("anchor_year") + middle
    index = tree.attrition.filter(pl.col("left_out").is_null()).select("hadm_id")
    version = tree.table("diagnoses_icd").group_by("hadm_id").agg(pl.col("icd_version").unique())
    found = admitted.join(index, "hadm_id").with_columns(year=year).join(version, "hadm_id")
    late = (pl.col("year") > 2015) | ((pl.col("year") == 2015) & (pl.col("admittime").dt.month() >= 10))
    expected = found.select(pl.when(late).then(10).otherwise(9)).to_series().to_list()
    assert [v[0] for v in found["icd_version"]] == expected
    assert (found["icd_version"].list.len() == 1).all()
    assert set(expected) == {9, 10}


def test_the_film_to_be_seen_is_the_latest_of_the_window(tree: Tree) -> None:
    films = tree.films()
    front = films.filter(ViewPosition="AP")
    seen = (
        front.filter(pl.col("hours").is_between(-24, 48))
        .sort("time", "dicom_id")
        .group_by("stay_id")
        .agg(pl.col("dicom_id").last())
    )
    found = tree.truth.join(seen, "stay_id", "left", maintain_order="left")
    assert found["dicom_id"].to_list() == tree.truth["film"].to_list()
    assert (tree.truth["film"].is_not_null() == tree.truth["present:chest_xray"]).all()
    for hours in (-25, -23, 47, 49):
        assert (front["hours"] == hours).sum() >= 10, hours
    views = films.group_by("study_id").agg(pl.col("ViewPosition").unique())["ViewPosition"]
    assert (views.list.contains("AP") & views.list.contains("PA")).sum() > 10
    # who admits PA films, or looks 25 h back, finds films of stays that have none
    without = tree.truth.filter(pl.col("film").is_null())["stay_id"].implode()
    for wrong in (
        films.filter(ViewPosition="PA").filter(pl.col("hours").is_between(-24, 48)),
        front.filter(pl.col("hours").is_between(-25, 48)),
    ):
        assert wrong.filter(pl.col("stay_id").is_in(without)).height > 10


def test_films_change_and_are_noisier_of_one_race(tree: Tree) -> None:
    admitted = tree.admitted
    race = dict(tree.table("admissions").select("subject_id", "race").iter_rows())
    noisy = [race[s] == NOISIER_RACE for s in admitted.stays.subject_id.tolist()]
    assert noisy == admitted.drawn.noisy.tolist()
    off = admitted.drawn.content[:, FILM] - admitted.drawn.latent @ admitted.drawn.world.loadings[FILM].T
    assert 2.5 < off[noisy].std() / off[~np.array(noisy)].std() < 3.5
    labels = pl.read_csv(tree.root / CXR / "mimic-cxr-2.0.0-chexpert.csv.gz", infer_schema_length=None)
    front = tree.films().filter(ViewPosition="AP").join(labels, "study_id").with_columns(edema=pl.col("Edema") == 1)
    front = front.join(tree.truth.select("stay_id", "film", died=f"label:{MORTALITY}"), "stay_id")
    seen = front.filter(pl.col("dicom_id") == pl.col("film")).select("stay_id", until="hours", now="edema")
    before = front.join(seen, "stay_id").filter(pl.col("hours") < pl.col("until"))
    assert (before["edema"].fill_null(False) != before["now"].fill_null(False)).mean() > 0.05
    after = front.filter(pl.col("hours") == 49).with_columns(pl.col("edema").fill_null(False))
    assert after.filter("died")["edema"].mean() > 0.7 > 0.4 > after.filter(~pl.col("died"))["edema"].mean()


def test_people_without_a_stay_have_films_with_labels(tree: Tree) -> None:
    meta = pl.read_csv(tree.root / CXR / "mimic-cxr-2.0.0-metadata.csv.gz")
    labels = pl.read_csv(tree.root / CXR / "mimic-cxr-2.0.0-chexpert.csv.gz", infer_schema_length=None)
    assert set(labels["study_id"]) == set(meta["study_id"])
    outside = set(meta["subject_id"]) - set(tree.table("icustays")["subject_id"])
    assert len(outside) == 350
    assert outside <= set(tree.table("patients")["subject_id"])
    theirs = labels.filter(pl.col("subject_id").is_in(list(outside)))
    assert 0.1 < (theirs["Cardiomegaly"] == 1).fill_null(False).mean() < 0.4
    views = meta.filter(pl.col("subject_id").is_in(list(outside)))["ViewPosition"]
    assert {"AP", "PA"} <= set(views)


def test_only_the_order_of_two_episodes_tells(tree: Tree) -> None:
    order = pl.DataFrame({"stay_id": tree.admitted.stays.stay_id, "first": tree.admitted.drawn.order > 0})
    found = {}
    for name, item in (("fast", 220045), ("low", 220179)):
        rows = tree.charted(item).filter(pl.col("valuenum") < 160).sort("stay_id", "hours")
        value, hours = pl.col("valuenum"), pl.col("hours")
        extreme = value.arg_max() if name == "fast" else value.arg_min()
        summary = rows.group_by("stay_id").agg(
            *(getattr(value, how)().alias(how) for how in ("first", "last", "min", "max", "mean", "std", "count")),
            at=hours.get(extreme),
        )
        found[name] = summary.join(order, "stay_id").sort("stay_id")
        assert summary["count"].mean() > 38
        for how in ("first", "last", "min", "max", "mean", "std", "count"):
            assert abs(roc_auc_score(found[name]["first_right"], found[name][how]) - 0.5) < 0.1, (name, how)
    later = found["low"]["at"] - found["fast"]["at"]
    assert roc_auc_score(found["low"]["first_right"], later) > 0.9


def test_words_urine_and_weights(tree: Tree) -> None:
    rhythm, beats = (set(tree.charted(item)["value"]) for item in (220048, 224650))
    assert {"SR (Sinus Rhythm)", "ST (Sinus Tachycardia)", "AF (Atrial Fibrillation)"} <= rhythm
    assert {"None", "PVC's"} <= beats
    refill = tree.charted(223951, 224308)
    assert set(refill["value"]) == {"Normal <3 Seconds", "Abnormal >3 Seconds"}
    assert refill["valuenum"].is_null().all()
    coma = tree.charted(220739, 223900, 223901)
    tube = coma.filter(pl.col("value") == "No Response-ETT")
    assert tube.height > 30
    assert set(tube["itemid"]) == {223900}
    assert set(tube["valuenum"]) == {1.0}
    points = coma.group_by("itemid").agg(pl.col("valuenum").min().alias("low"), pl.col("valuenum").max().alias("high"))
    assert dict(points.select("itemid", "high").iter_rows()) == {220739: 4.0, 223900: 5.0, 223901: 6.0}
    assert set(tree.table("chartevents")["itemid"]) <= set(tree.table("d_items")["itemid"])
    assert set(tree.table("outputevents")["itemid"]) <= set(tree.table("d_items")["itemid"])
    base = tree.stays().join(tree.truth.select("stay_id"), "stay_id").select("stay_id", "intime")
    urine = tree.table("outputevents").filter(pl.col("itemid") != 227488).join(base, "stay_id")
    urine = urine.filter(pl.col("charttime") < pl.col("intime") + 48 * HOUR)
    hourly = urine.group_by("stay_id").agg(pl.len(), pl.col("value").sum())
    assert hourly["len"].min() == hourly["len"].max() == 48
    weight = tree.charted(226512).select("stay_id", kg="valuenum").join(hourly, "stay_id")
    rate = weight["value"] / weight["kg"] / 48
    assert 0.6 < rate.median() < 1.3
    assert np.corrcoef(weight["kg"], weight["value"])[0, 1] > 0.2
    assert tree.charted(224639).group_by("stay_id").len().height > 0.9 * tree.truth.height


def test_levels_follow_the_contents(tree: Tree) -> None:
    severity = tree.admitted.stays.severity(0)
    for item, dimension, sign in ((220045, 0, 1), (220210, 2, 1), (220179, 3, -1), (223761, 4, 1)):
        rows = tree.charted(item).filter(pl.col("valuenum") < 160)
        mean = rows.group_by("stay_id").agg(pl.col("valuenum").mean())
        content = pl.DataFrame({"stay_id": tree.admitted.stays.stay_id, "z": severity[:, dimension]})
        both = mean.join(content, "stay_id")
        assert sign * np.corrcoef(both["valuenum"], both["z"])[0, 1] > 0.9, item


def _auroc_by_kind(tree: Tree, x: np.ndarray, rows: np.ndarray) -> dict[str, tuple[float, float]]:
    """Kind → mean AUROC over its phenotypes of a logistic regression out of fold, and of the exact risks."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05))
    found = {}
    for kind, columns in KINDS.items():
        pairs = []
        for k in columns:
            y = tree.truth[f"label:{OUTCOMES[k]}"].to_numpy()[rows]
            score = cross_val_predict(model, x[rows], y, cv=4, method="decision_function")
            pairs.append((roc_auc_score(y, score), roc_auc_score(y, tree.truth[OUTCOMES[k]].to_numpy()[rows])))
        found[kind] = (float(np.mean([a for a, _ in pairs])), float(np.mean([b for _, b in pairs])))
    return found


def test_tables_come_near_the_exact_risks_and_films_too(tree: Tree) -> None:
    """A referee that looks at charts alone, at films alone, and at their sum: what each can and cannot find."""
    items = [220045, 220210, 220277, 220179, 220180, 223761, 220739, 223900]
    mean = tree.charted(*items).filter(pl.col("valuenum") < 160)
    charts = mean.pivot("itemid", index="stay_id", values="valuenum", aggregate_function="mean")
    hours = pl.col("hours")
    fast = tree.charted(220045).filter(pl.col("valuenum") < 160).group_by("stay_id")
    low = tree.charted(220179).group_by("stay_id")
    fast_at = fast.agg(fast=hours.get(pl.col("valuenum").arg_max()))
    low_at = low.agg(low=hours.get(pl.col("valuenum").arg_min()))
    base = tree.stays().select("stay_id", "intime")
    urine = tree.table("outputevents").join(base, "stay_id").filter(pl.col("charttime") < pl.col("intime") + 48 * HOUR)
    urine = urine.group_by("stay_id").agg(urine=pl.col("value").sum().log())
    found = tree.truth.select("stay_id")
    for part in (charts, fast_at, low_at, urine):
        found = found.join(part, "stay_id", "left", maintain_order="left")
    first = (found["low"] > found["fast"]).cast(pl.Float64)
    table = found.drop("stay_id", "fast", "low").with_columns(first=first)
    series = table.fill_null(strategy="mean").to_numpy()
    film = np.zeros((found.height, 5))
    paths = {p.stem: p for p in (tree.root / EMBEDDINGS).rglob("*.tfrecord")}
    has = tree.truth["film"].is_not_null().to_numpy()
    # the packed floats stand at the end, before a checksum of four bytes
    records = [paths[name].read_bytes()[-4 - 4 * WIDTH : -4] for name in tree.truth["film"].drop_nulls()]
    vectors = np.array([np.frombuffer(record, "<f4") for record in records])
    u, s, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    film[has] = u[:, :5] * s[:5]
    everyone = np.arange(len(has))
    told = _auroc_by_kind(tree, series, everyone)
    assert told["series"][0] > told["series"][1] - 0.05
    assert told["order"][0] > told["order"][1] - 0.04
    assert max(told["film"][0], told["both"][0]) < 0.56
    told = _auroc_by_kind(tree, film, np.flatnonzero(has))
    assert told["film"][0] > told["film"][1] - 0.05
    assert max(told[kind][0] for kind in ("series", "order", "both")) < 0.6
    told = _auroc_by_kind(tree, np.hstack([series, film]), np.flatnonzero(has))
    assert told["both"][0] < 0.58 < 0.75 < told["both"][1]


def test_sex_tells_nothing(tree: Tree) -> None:
    sex = dict(tree.table("patients").select("subject_id", "gender").iter_rows())
    woman = np.array([sex[s] == "F" for s in tree.truth["subject_id"]])
    for k, name in enumerate(OUTCOMES):
        p, y = tree.truth[name].to_numpy(), tree.truth[f"label:{name}"].to_numpy()
        z = [(y[g] - p[g]).sum() / np.sqrt((p[g] * (1 - p[g])).sum()) for g in (woman, ~woman)]
        assert max(map(abs, z)) < 4.5, (k, name)
    assert 0.4 < woman.mean() < 0.6


def test_equal_seeds_make_equal_trees_and_others_other_people(tmp_path: Path) -> None:
    digests, people = [], []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_carebench(tmp_path / name, 30, seed=seed)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.suffix != ".parquet"])
        people.append(set(pl.read_csv(tmp_path / name / IV / "hosp" / "patients.csv.gz")["subject_id"]))
    assert digests[0] == digests[1] != digests[2]
    assert not people[0] & people[2]
    with pytest.raises(ConfigError, match="image_side"):
        write_carebench(tmp_path / "d", 30, side=4)


def test_the_command_writes_it(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    line = ["simulate", "mimic-iv", "--world", "carebench", "--patients", "12", "--images", "--image-side", "32"]
    with contextlib.suppress(SystemExit):
        cli.main([*line, "--out", str(tmp_path / "t")])
    told = dict(pl.read_parquet(tmp_path / "t" / TOLD_BY).iter_rows())
    assert tuple(told) == OUTCOMES
    assert told["los_14_up"] == "state"
    names = (tmp_path / "t" / CXR / "IMAGE_FILENAMES").read_text().split()
    assert names
    assert {image.open(tmp_path / "t" / CXR / name).size for name in names} == {(32, 32)}
