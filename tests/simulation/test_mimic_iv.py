"""The simulated MIMIC-IV: real columns, times in order, outcomes as simulated, exact risks apart, traps that tell."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import re
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mmnar import cli
from mmnar.errors import StoreError
from mmnar.simulation.mimic_iv.cxr import SIDE, WIDTH
from mmnar.simulation.mimic_iv.release import CXR, EMBEDDINGS, IV, MODALITIES, NOTES, TRUTH, write_mimic_iv
from mmnar.simulation.population import Simulation, pattern_number, simulate
from mmnar.simulation.risks import exact_risk
from mmnar.simulation.text import CHEST, COURSE, GRADES
from mmnar.simulation.tfrecord import records
from tests.records import open_data

PATIENTS = 1000


class Tree:
    """A written tree, read like a stranger: text files only."""

    def __init__(self, root: Path, simulation: Simulation) -> None:
        self.root, self.simulation = root, simulation
        self.truth = pl.read_parquet(root / TRUTH)
        self.read: dict[str, pl.DataFrame] = {}
        self.order = {s: i for i, s in enumerate(self.truth["subject_id"].to_list())}

    def table(self, name: str) -> pl.DataFrame:
        if name not in self.read:
            folder = self.root / (NOTES if name in ("discharge", "radiology") else IV)
            table = pl.read_csv(next(folder.rglob(f"{name}.csv.gz")), infer_schema_length=None)
            times = [c for c in table.columns if c.endswith("time")]
            self.read[name] = table.with_columns(pl.col(times).str.to_datetime("%Y-%m-%d %H:%M:%S"))
        return self.read[name]

    def index(self) -> pl.DataFrame:
        """The truth's rows with times of the index stay."""
        stays = self.table("icustays").select("stay_id", "intime", "outtime")
        ends = self.table("admissions").select("hadm_id", "admittime", "dischtime", "deathtime", "hospital_expire_flag")
        return self.truth.join(stays, "stay_id").join(ends, "hadm_id").sort("subject_id")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    root = tmp_path_factory.mktemp("trees") / "mimic"
    return Tree(root, write_mimic_iv(root, PATIENTS, seed=5))


def _header(path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as handle:
        return next(csv.reader(handle))


def test_headers_are_those_of_the_release(tree: Tree) -> None:
    demo = open_data("mimic-iv-demo-2.2")
    compared = set()
    for room in ("hosp", "icu"):
        for path in sorted((tree.root / IV / room).iterdir()):
            name = path.name.split(".")[0]
            real = [p for p in (demo / room).iterdir() if p.name.split(".")[0] == name]
            if real:
                assert _header(path) == _header(real[0]), name
                compared.add(name)
    assert len(compared) == 15


def test_headers_of_tables_that_the_demo_lacks(tree: Tree) -> None:
    # as documented: mimic.mit.edu/docs/iv, and the releases of MIMIC-IV-Note and MIMIC-CXR-JPG
    notes = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text"
    expected = {
        IV / "hosp" / "d_icd_diagnoses.csv.gz": "icd_code,icd_version,long_title",
        IV / "hosp" / "d_icd_procedures.csv.gz": "icd_code,icd_version,long_title",
        IV / "icu" / "d_items.csv.gz": (
            "itemid,label,abbreviation,linksto,category,unitname,param_type,lownormalvalue,highnormalvalue"
        ),
        IV / "icu" / "inputevents.csv.gz": (
            "subject_id,hadm_id,stay_id,caregiver_id,starttime,endtime,storetime,itemid,amount,amountuom,rate,rateuom,"
            "orderid,linkorderid,ordercategoryname,secondaryordercategoryname,ordercomponenttypedescription,"
            "ordercategorydescription,patientweight,totalamount,totalamountuom,isopenbag,continueinnextdept,"
            "statusdescription,originalamount,originalrate"
        ),
        NOTES / "discharge.csv.gz": notes,
        NOTES / "radiology.csv.gz": notes,
        CXR / "mimic-cxr-2.0.0-split.csv.gz": "dicom_id,study_id,subject_id,split",
        CXR / "mimic-cxr-2.0.0-metadata.csv.gz": (
            "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,"
            "StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
            "PatientOrientationCodeSequence_CodeMeaning"
        ),
    }
    for path, header in expected.items():
        assert ",".join(_header(tree.root / path)) == header, path


def test_every_row_belongs_to_someone(tree: Tree) -> None:
    patients = set(tree.table("patients")["subject_id"])
    admissions, stays = tree.table("admissions"), tree.table("icustays")
    assert len(patients) == PATIENTS
    assert admissions["hadm_id"].is_unique().all()
    assert stays["stay_id"].is_unique().all()
    hadm = dict(admissions.select("hadm_id", "subject_id").iter_rows())
    unit = dict(stays.select("stay_id", "hadm_id").iter_rows())
    files = sorted((tree.root / IV).rglob("*.csv.gz")) + sorted((tree.root / NOTES).iterdir())
    for path in files:
        table = tree.table(path.name.split(".")[0])
        if "subject_id" in table.columns:
            assert set(table["subject_id"]) <= patients, path.name
        if "hadm_id" in table.columns:
            pairs = table.select("subject_id", "hadm_id").drop_nulls().unique()
            assert all(hadm[h] == s for s, h in pairs.iter_rows()), path.name
        if "stay_id" in table.columns:
            pairs = table.select("hadm_id", "stay_id").drop_nulls().unique()
            assert all(unit[s] == h for h, s in pairs.iter_rows()), path.name
    for events, names in (("labevents", "d_labitems"), ("chartevents", "d_items"), ("inputevents", "d_items")):
        assert set(tree.table(events)["itemid"]) <= set(tree.table(names)["itemid"])


def test_times_are_in_order(tree: Tree) -> None:
    index = tree.index()
    assert (index["admittime"] < index["intime"]).all()
    assert (index["intime"] < index["outtime"]).all()
    assert (index["outtime"] <= index["dischtime"]).all()
    for table in ("labevents", "chartevents", "outputevents", "microbiologyevents", "discharge", "radiology"):
        rows = tree.table(table)
        assert (rows["storetime"] >= rows["charttime"]).all(), table
    for table in ("inputevents", "procedureevents"):
        rows = tree.table(table)
        assert (rows["endtime"] > rows["starttime"]).all(), table
    assert index["deathtime"].is_not_null().sum() == index["hospital_expire_flag"].sum()
    assert (index["dischtime"] - index["intime"]).dt.total_hours().min() >= 54  # type: ignore[operator]
    first = tree.table("admissions").join(tree.table("icustays").select("hadm_id").unique(), "hadm_id")
    earliest = first.group_by("subject_id").agg(pl.col("hadm_id").sort_by("admittime").first())
    assert set(earliest["hadm_id"]) == set(tree.truth["hadm_id"])


def test_outcomes_of_the_tables_are_those_of_the_simulation(tree: Tree) -> None:
    index, admissions, stays = tree.index(), tree.table("admissions"), tree.table("icustays")
    left = index.select("subject_id", "dischtime")
    again = admissions.join(left, "subject_id", suffix="_index").with_columns(
        days=(pl.col("admittime") - pl.col("dischtime_index")).dt.total_seconds() / 86400
    )
    back = set(again.filter(pl.col("days").is_between(0, 30, closed="right"))["subject_id"])
    unit = stays.join(left, "subject_id").with_columns(
        days=(pl.col("intime") - pl.col("dischtime")).dt.total_seconds() / 86400
    )
    in_unit = set(unit.filter(pl.col("days").is_between(0, 90, closed="right"))["subject_id"])
    icu_again, died, readmitted = tree.simulation.labels.T
    assert index["hospital_expire_flag"].cast(pl.Boolean).to_list() == died.tolist()
    subjects = index["subject_id"].to_list()
    assert [s in back for s in subjects] == (readmitted & ~died).tolist()
    assert [s in in_unit for s in subjects] == (icu_again & ~died).tolist()
    for task, label in (("readmission", readmitted), ("icu_admission", icu_again)):
        assert index[f"label:{task}"].to_list() == [None if d else bool(y) for y, d in zip(label, died, strict=True)]
    # some come back too late to count
    assert set(again.filter(pl.col("days") > 30)["subject_id"]) - back
    assert set(unit.filter(pl.col("days") > 90)["subject_id"]) - in_unit


def _known(tree: Tree, table: str, asked: str) -> pl.DataFrame:
    """Notes of the index admission that are stored by the time ``asked``."""
    times = tree.index().select("hadm_id", discharge="dischtime", early=pl.col("intime") + pl.duration(hours=48))
    return tree.table(table).join(times, "hadm_id").filter(pl.col("storetime") <= pl.col(asked))


def _films(tree: Tree) -> pl.DataFrame:
    meta = pl.read_csv(tree.root / CXR / "mimic-cxr-2.0.0-metadata.csv.gz")
    clock = pl.col("StudyTime").cast(pl.Int64).cast(pl.String).str.zfill(6)
    return meta.with_columns(time=(pl.col("StudyDate").cast(pl.String) + clock).str.to_datetime("%Y%m%d%H%M%S")).join(
        tree.index().select("subject_id", "admittime", "intime", "dischtime"), "subject_id"
    )


def test_what_is_there_in_time_is_the_pattern(tree: Tree) -> None:
    truth = tree.truth.sort("subject_id")
    alive = ~truth["label:mortality"]
    films = _films(tree).filter(pl.col("time") >= pl.col("admittime"))
    early = films.filter(pl.col("time") <= pl.col("intime") + pl.duration(hours=48))
    at_discharge = films.filter(pl.col("time") <= pl.col("dischtime"))
    for modality, who, asked in (
        ("radiology_report", _known(tree, "radiology", "early"), None),
        ("radiology_report", _known(tree, "radiology", "discharge"), alive),
        ("discharge_summary", _known(tree, "discharge", "discharge"), alive),
        ("chest_xray", early, None),
        ("chest_xray", at_discharge, alive),
    ):
        found = truth["subject_id"].is_in(set(who["subject_id"]))
        wrong = found != truth[f"present:{modality}"]
        assert not (wrong if asked is None else wrong & asked).any(), modality
    assert _known(tree, "discharge", "early").is_empty()
    assert truth["present:structured"].all()
    assert [c.removeprefix("present:") for c in truth.columns if c.startswith("present:")] == list(MODALITIES)


def test_who_reads_past_the_question_is_caught(tree: Tree) -> None:
    """Read by when it was charted, not stored, each trap makes a pattern wrong or tells the outcome."""
    truth = tree.truth.sort("subject_id")
    notes = tree.table("discharge").join(tree.index().select("hadm_id", end="dischtime"), "hadm_id")
    dated = truth["subject_id"].is_in(set(notes.filter(pl.col("charttime") <= pl.col("end"))["subject_id"]))
    assert (dated & ~truth["present:discharge_summary"]).sum() > 70
    telling = notes.filter(pl.col("text").str.contains("readmitted to the hospital"))
    assert (telling["storetime"] > telling["end"]).all()
    assert set(telling["subject_id"]) <= set(truth.filter(pl.col("label:readmission"))["subject_id"])

    labs = tree.table("labevents").filter(itemid=50813).drop_nulls("valuenum").join(tree.index(), "subject_id")
    early = pl.col("intime") + pl.duration(hours=48)
    drawn = (
        labs.filter(pl.col("charttime") <= early)
        .group_by("subject_id")
        .agg(
            naive=pl.col("valuenum").max(),
            honest=pl.col("valuenum").filter(pl.col("storetime") <= early).max(),
            died=pl.col("label:mortality").first(),
            stays=(pl.col("outtime") > early).first(),
        )
        .filter("stays")
        .drop_nulls()
    )
    naive = roc_auc_score(drawn["died"], drawn["naive"])
    assert naive > roc_auc_score(drawn["died"], drawn["honest"]) + 0.05
    assert drawn["honest"].max() < 12 < drawn["naive"].max()

    codes = tree.table("diagnoses_icd").join(truth, "hadm_id")
    assert set(codes.filter(icd_code="I469")["label:mortality"]) == {True}


def test_equal_seeds_make_equal_tables(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_mimic_iv(tmp_path / name, 60, seed=seed)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file() and p.suffix != ".parquet")
        digests.append({str(p.relative_to(tmp_path / name)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files})
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]
    people = [set(pl.read_parquet(tmp_path / name / TRUTH)["subject_id"]) for name in "ac"]
    assert not people[0] & people[1]
    with pytest.raises(StoreError, match="new or empty folder"):
        write_mimic_iv(tmp_path / "a", 60)


def test_risks_are_in_a_file_apart(tree: Tree) -> None:
    beside = {p.name for p in tree.root.iterdir()}
    assert beside == {"truth", IV.parts[0], NOTES.parts[0], CXR.parts[0], EMBEDDINGS.parts[0]}
    assert [p.name for p in tree.root.rglob("*.parquet")] == [TRUTH.name]


# --- the contents are in the tables -----------------------------------------------------------------------------------


def _correlation(tree: Tree, modality: int, dimension: int, measured: pl.DataFrame) -> float:
    """Of content with a number per subject (``subject_id``, ``value``)."""
    rows = [tree.order[s] for s in measured["subject_id"]]
    content = tree.simulation.content[rows, modality, dimension]
    return float(np.corrcoef(content, measured["value"].to_numpy())[0, 1])


def test_measurements_follow_the_contents_of_the_record(tree: Tree) -> None:
    asked = pl.col("intime") + pl.duration(hours=48)
    index = tree.index().select("subject_id", "intime")
    for table, itemid, dimension, sign in (
        ("chartevents", 220045, 0, 1),
        ("chartevents", 220210, 2, 1),
        ("chartevents", 220179, 3, -1),
        ("labevents", 50912, 1, 1),
        ("labevents", 51301, 4, 1),
    ):
        rows = tree.table(table).filter(pl.col("itemid") == itemid).join(index, "subject_id")
        rows = rows.filter(pl.col("storetime") <= asked).drop_nulls("valuenum")
        mean = rows.group_by("subject_id").agg(value=pl.col("valuenum").log().mean())
        assert sign * _correlation(tree, 0, dimension, mean) > 0.9, itemid


@pytest.mark.parametrize(
    ("table", "modality", "findings"),
    [("radiology", 3, CHEST), ("discharge", 2, COURSE)],
    ids=["radiology", "discharge"],
)
def test_notes_grade_their_contents(tree: Tree, table: str, modality: int, findings: tuple[str, ...]) -> None:
    asked = "early" if table == "radiology" else "discharge"
    notes = _known(tree, table, asked)
    words = "|".join(sorted(GRADES, key=len, reverse=True))
    for dimension, finding in enumerate(findings):
        grade = notes["text"].str.extract(rf"(?i)\b({words}) {re.escape(finding)}").str.to_lowercase()
        value = grade.replace_strict(list(GRADES), list(range(len(GRADES))), return_dtype=pl.Float64)
        measured = notes.select("subject_id").with_columns(value=value)
        assert measured["value"].null_count() == 0
        assert _correlation(tree, modality, dimension, measured) > 0.95, finding


def test_some_notes_are_long(tree: Tree) -> None:
    # a word or a mark is one word piece or more
    course = tree.table("discharge")["text"].str.split("Brief Hospital Course").list.first()
    pieces = course.str.count_matches(r"\w+|[^\w\s]")
    assert 0.2 < (pieces > 512).mean() < 0.5
    assert (pieces < 300).mean() > 0.5
    assert tree.table("discharge")["text"].str.contains("___").all()


def _crc32c(data: bytes) -> int:
    """Bit by bit, as RFC 3720 defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_records_are_those_of_other_writers() -> None:
    vector = np.arange(WIDTH, dtype=np.float32)[None]
    record = records(vector)[0]
    # as serialised by Google's protobuf from tf.Example's definition
    head = bytes.fromhex("0a972b0a942b0a09656d62656464696e6712862b12832b0a802b")
    assert record[12:-4] == head + vector.astype("<f4").tobytes()
    for part, stored in ((record[:8], record[8:12]), (record[12:-4], record[-4:])):
        crc = _crc32c(part)
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        assert struct.unpack("<I", stored)[0] == masked


def test_the_command_writes_a_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, truth in (("mimic-iv", TRUTH.name), ("eicu", "eicu.parquet")):
        with contextlib.suppress(SystemExit):
            cli.main(["simulate", verb, "--patients", "30", "--out", str(tmp_path / verb), "--seed", "2"])
        assert pl.read_parquet(tmp_path / verb / "truth" / truth).height == 30
        assert str(tmp_path / verb) in capsys.readouterr().out


def _floats(record: bytes) -> np.ndarray:
    """The packed floats at the end of a record, by their stated length; TFRecord, then protobuf by hand."""
    length = struct.unpack("<Q", record[:8])[0]
    payload = record[12 : 12 + length]
    assert len(record) == 16 + length
    at = payload.index(b"embedding") + len(b"embedding")
    sizes = []
    for tag in (0x12, 0x12, 0x0A):
        assert payload[at] == tag
        size = shift = 0
        at += 1
        while True:
            size |= (payload[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if payload[at - 1] < 128:
                break
        sizes.append(size)
        assert at + size == len(payload)
    return np.frombuffer(payload[at:], "<f4")


def test_vectors_show_the_contents_of_the_film(tree: Tree) -> None:
    films = _films(tree).filter(
        (pl.col("time") >= pl.col("intime")) & (pl.col("time") <= pl.col("intime") + pl.duration(hours=48))
    )
    vectors, rows = [], []
    for subject, study, dicom in films.select("subject_id", "study_id", "dicom_id").iter_rows():
        path = (
            tree.root
            / EMBEDDINGS
            / "files"
            / f"p{subject // 10**6}"
            / f"p{subject}"
            / f"s{study}"
            / f"{dicom}.tfrecord"
        )
        vectors.append(_floats(path.read_bytes()))
        rows.append(tree.order[subject])
    x, y = np.stack(vectors), tree.simulation.content[rows, 1]
    assert x.shape == (films.height, WIDTH)
    # the leading directions of the vectors are the contents
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    scores = u[:, :5] * s[:5]
    fitted = scores @ np.linalg.lstsq(scores, y - y.mean(axis=0), rcond=None)[0]
    assert (1 - ((y - y.mean(axis=0) - fitted) ** 2).sum(axis=0) / y.var(axis=0) / len(y) > 0.97).all()


def test_images_are_named_and_show_the_contents(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    simulation = write_mimic_iv(tmp_path / "t", 120, seed=3, images=True)
    tree = Tree(tmp_path / "t", simulation)
    names = (tree.root / CXR / "IMAGE_FILENAMES").read_text().split()
    assert all(re.fullmatch(r"files/p1\d/p1\d{7}/s5\d{7}/[0-9a-f]{8}(-[0-9a-f]{8}){4}\.jpg", name) for name in names)
    assert sorted(names) == sorted(str(p.relative_to(tree.root / CXR)) for p in (tree.root / CXR).rglob("*.jpg"))
    films = _films(tree).filter(pl.col("time") <= pl.col("intime") + pl.duration(hours=48), ViewPosition="AP")
    films = films.filter(pl.col("time") >= pl.col("intime"))
    haze, bright = [], []
    for subject, dicom in films.select("subject_id", "dicom_id").iter_rows():
        pixels = np.asarray(image.open(tree.root / CXR / next(n for n in names if dicom in n)))
        assert pixels.shape == (SIDE, SIDE)
        assert pixels.dtype == np.uint8
        bright.append(float(pixels[20:60].mean()))
        haze.append(float(simulation.content[tree.order[subject], 1, 2]))
    assert np.corrcoef(haze, bright)[0, 1] > 0.5


# --- the risks are exact ----------------------------------------------------------------------------------------------


def _by_brute_force(s: Simulation, who: int, outcome: int, seen: np.ndarray, h: np.ndarray, alive: bool) -> float:
    """Prior draws of h weighed by everything the question knows, written from the simulator's own law."""
    weight = np.zeros(len(h))
    happens = np.zeros(len(h))
    log_x = np.zeros(len(h))
    for m in np.flatnonzero(s.present[who] & seen):
        log_x -= ((s.content[who, m] - h @ s.world.loadings[m].T) ** 2).sum(axis=1) / 8
    likelihood = np.exp(log_x - log_x.max())
    for code in range(8):
        pattern = np.array([True, code & 1, code & 2, code & 4], dtype=bool)
        if (pattern != s.present[who])[seen].any():
            continue
        measured = expit(s.policy.offsets[0] + s.policy.slopes[0] * (h @ s.world.directions.T))
        p = np.where(pattern, measured, 1 - measured)[:, 1:].prod(axis=1)
        risk = expit(s.world.linear_predictor(h, np.full(len(h), pattern_number(pattern[None])[0])))
        w = likelihood * p * ((1 - risk[:, 1]) if alive else 1.0)
        weight += w
        happens += w * risk[:, outcome]
    return float(happens.sum() / weight.sum())


def test_exact_risks_equal_brute_force() -> None:
    s = simulate(30, 4, seed=8)
    h = np.random.default_rng(0).standard_normal((200_000, 3))
    everything, no_summary = np.ones(4, dtype=bool), np.array([True, True, False, True])
    death = exact_risk(s, 1, no_summary)
    readmission = exact_risk(s, 2, everything, among_survivors_of=1)
    for who in range(8):
        assert death[who] == pytest.approx(_by_brute_force(s, who, 1, no_summary, h, alive=False), abs=0.006)
        assert readmission[who] == pytest.approx(_by_brute_force(s, who, 2, everything, h, alive=True), abs=0.006)
    # what the two conditions change is far more than that
    assert np.abs(death - s.bayes[:, 1]).max() > 0.03
    assert np.abs(readmission - s.bayes[:, 2]).max() > 0.006


def test_recorded_risks_are_calibrated_for_those_asked(tree: Tree) -> None:
    index = tree.index()
    still = index.filter(pl.col("outtime") > pl.col("intime") + pl.duration(hours=48))
    assert 0.6 < still.height / index.height < 0.95
    for task, asked in (
        ("mortality", index),
        ("mortality", still),
        ("readmission", index.drop_nulls("label:readmission")),
        ("icu_admission", index.drop_nulls("label:icu_admission")),
    ):
        risk, label = asked[task].to_numpy(), asked[f"label:{task}"].to_numpy().astype(float)
        spread = np.sqrt((risk * (1 - risk)).sum())
        assert abs((label - risk).sum()) < 3 * spread, task
        assert roc_auc_score(label, risk) > 0.65, task


def test_contents_and_pattern_come_near_the_exact_risk(tree: Tree) -> None:
    """A referee: what the tables are made of predicts what the tables say, about as well as is possible."""
    others = simulate(20_000, 4, seed=6)
    model = LogisticRegression(max_iter=500).fit(_inputs(others)[~others.labels[:, 1]], _survivors(others, 0))
    index = tree.index()
    alive = ~index["label:mortality"].to_numpy()
    y = index["label:icu_admission"].to_numpy()[alive].astype(bool)
    risk = index["icu_admission"].to_numpy()[alive]
    fitted = model.predict_proba(_inputs(tree.simulation)[alive])[:, 1]
    assert roc_auc_score(y, fitted) > roc_auc_score(y, risk) - 0.02
    assert np.corrcoef(logit(fitted), logit(risk))[0, 1] > 0.9


def _inputs(s: Simulation) -> np.ndarray:
    """Contents, 0 where absent, the pattern and its pairs."""
    pattern = s.present[:, 1:]
    known = np.nan_to_num(s.observed_content()).reshape(len(s), -1) / 2
    return np.hstack([known, pattern, pattern[:, [0, 0, 1]] * pattern[:, [1, 2, 2]]])


def _survivors(s: Simulation, outcome: int) -> np.ndarray:
    return s.labels[~s.labels[:, 1], outcome]
