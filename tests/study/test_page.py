"""A study's page says what the result says: numbers, marks, refusals; nothing runs, nothing is fetched."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mmnar.cli import main
from mmnar.dataset.store import write_store
from mmnar.errors import StoreError
from mmnar.evaluation.atlas import availability
from mmnar.evaluation.embedding import Embedding
from mmnar.evaluation.ranks import Ranks
from mmnar.evaluation.result import Comparison, Estimate, GroupRow, PanelModel
from mmnar.render.marks import critical_difference, forest
from mmnar.render.svg import BLUE, ORANGE
from mmnar.report.study.page import study_html, study_markdown, study_text, write_study
from mmnar.simulation.planted import planted
from mmnar.study.driver import run_study
from mmnar.study.progress import Quiet
from mmnar.study.result import Cost, RowTask, StudyResult, Table, judge
from mmnar.study.saved import load_result, save_slim
from mmnar.study.spec import study_of
from tests.report.test_render import browse
from tests.study.test_run import Inline

EVIL = "<script>alert(1)</script>"


class Tables(HTMLParser):
    """Caption → rows of cells, and every tag and attribute that the page uses."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self.kinds: dict[tuple[str, str], list[str]] = {}
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str, str]] = set()
        self._rows: list[list[str]] = []
        self._caption = ""
        self._in = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "br":
            self.handle_data(" ")
        self.attributes |= {(tag, name, value or "") for name, value in attrs}
        if tag == "caption":
            self._in, self._caption = "caption", ""
        elif tag == "tr":
            self._rows.append([])
        elif tag == "td" and ("class", "markcell") in attrs:
            self._in = "mark"  # the number of the cell before it, drawn
        elif tag in ("td", "th"):
            self._in = "cell"
            self._rows[-1].append("")
            if tag == "td":
                self.kinds.setdefault((self._caption, self._rows[-1][0].strip()), []).append(
                    dict(attrs).get("class") or ""
                )

    def handle_endtag(self, tag: str) -> None:
        if tag in ("caption", "td", "th"):
            self._in = ""
        elif tag == "table":
            self.found[self._caption] = [[" ".join(c.split()) for c in row] for row in self._rows]
            self._rows = []

    def handle_data(self, data: str) -> None:
        if self._in == "caption":
            self._caption += data
        elif self._in == "cell":
            self._rows[-1][-1] += data

    def row(self, caption: str, name: str) -> list[str]:
        return next(row[1:] for row in self.found[caption] if row[0].removesuffix(" control") == name)


def numbers(auroc: float, spread: float = 0.0) -> RowTask:
    """AUROC as given, a Brier score beside it."""
    return RowTask(
        {"auroc": Estimate(auroc, auroc - 0.02, auroc + 0.02), "brier": Estimate(0.1234, 0.11, 0.13)},
        {"auroc": spread, "brier": 0.0},
    )


def compared(model: str, control: str, difference: float, p_holm: float, metric: str = "auroc") -> Comparison:
    e = Estimate(difference, difference - 0.01, difference + 0.01)
    return Comparison("death", metric, model, control, e, p_holm / 2, p_holm)


def result_of(layout: str, aurocs: dict[str, float], controls: tuple[str, ...] = (), **table: Any) -> StudyResult:
    """A result by hand: one data set, one task."""
    raw = {
        "title": "By hand",
        "layout": layout,
        "data": {"ours": {"store": "/secret/place/ours", "reference": "theirs"}},
        "rows": {name: {"model": name if name in ("zero-fill", "pattern-only") else "crl-mmnar"} for name in aurocs}
        or {"unused": {"model": "zero-fill"}},
        "controls": list(controls),
        "metrics": ["auroc", "brier"],
        "resamples": 5000,
    }
    parts: dict[str, Any] = {"comparisons": (), "ladder": (), "ranks": {}, "cost": {}, "patients": 900, "samples": 1000}
    tasks = {"death": {name: numbers(value) for name, value in aurocs.items()}} if aurocs else {}
    made = Table("ours", "default", tasks, **{**parts, **table})
    return StudyResult(asdict(study_of(raw)), (made,), (), (), (), (), {"versions": {"torch": "1"}, "data": {}})


@pytest.fixture
def comparison() -> StudyResult:
    made = result_of(
        "comparison",
        {"crl-mmnar": 0.8, "weak": 0.7, "zero-fill": 0.75, "pattern-only": 0.72},
        ("zero-fill", "pattern-only"),
        comparisons=(
            compared("crl-mmnar", "zero-fill", 0.05, 0.004),
            compared("crl-mmnar", "pattern-only", 0.08, 0.0001),
            compared("weak", "zero-fill", -0.05, 0.004),
            compared("weak", "pattern-only", -0.02, 0.3),
        ),
        ranks={"": {"auroc": Ranks(("crl-mmnar", "zero-fill", "weak"), (1.25, 2.0, 2.75), 4, 0.03, 1.0)}},
        cost={
            "crl-mmnar": Cost(5, 30.0, 60.0, 512.4, 0.123, 12345.0),
            "zero-fill": Cost(5, 10.0, None, None, None, None),
        },
        bayes={"death": {"auroc": Estimate(0.85)}},
    )
    reference = {
        "data": "theirs",
        "task": "death",
        "row": "crl-mmnar",
        "metric": "auroc",
        "value": "0.947",
        "spread": "0.01",
    }
    others = [{**reference, "data": "elsewhere", "value": "0.111"}, {**reference, "row": "nobody", "value": "0.222"}]
    return replace(
        made,
        study={**made.study, "reference": (reference, *others), "seeds": (0, 1)},
        tables=(
            replace(made.tables[0], tasks={"death": {**made.tables[0].tasks["death"], "weak": numbers(0.7, 0.0123)}}),
        ),
        refused=(("ours", "gru-d", "needs a modality of kind series"),),
        failures=(("ours · mt · fold 0", "TrainingError: see /secret/place/log.txt", "Traceback: line 7"),),
        chosen=(
            {
                "data": "ours",
                "row": "crl-mmnar",
                "settings": {"train.lr": 0.00123456},
                "tune_loss": 0.51234,
                "trials": 8,
                "pruned": 3,
                "seconds": 41.0,
            },
        ),
        notices=("a word to the reader",),
    )


def test_published_figures_of_a_panel_stand_apart_from_ours() -> None:
    made = result_of("comparison", {"crl-mmnar": 0.8, "zero-fill": 0.75})
    panel = PanelModel({"macro_auroc": Estimate(0.7, 0.6, 0.8), "macro_auprc": Estimate(0.5, 0.4, 0.6)}, ("death",), {})
    figure = {
        "data": "theirs",
        "task": "all",
        "row": "crl-mmnar",
        "metric": "macro_auprc",
        "value": "0.471",
        "spread": "",
    }
    table = replace(
        made.tables[0], panels={"all": {"crl-mmnar": panel, "zero-fill": panel}}, gathered={"all": ("death",)}
    )
    within = {**figure, "metric": "macro_auroc", "value": "0.7", "low": "0.65", "high": "0.75", "setting": "default"}
    others = ({**figure, "data": "elsewhere", "value": "0.9"}, {**figure, "setting": "other", "value": "0.8"})
    reference = (figure, within, *others)
    tables = Tables(study_html(replace(made, tables=(table,), study={**made.study, "reference": reference})))
    assert tables.found["all: published figures; 95 % intervals in brackets."] == [
        ["Row", "Mean AUPRC", "Mean AUROC"],
        ["crl-mmnar", "0.471", "0.700 (0.650 to 0.750)"],
    ]
    plain = study_html(replace(made, tables=(table,)))
    assert "published" not in plain


def test_the_comparison_has_its_numbers_and_marks(comparison: StudyResult) -> None:
    page = study_html(comparison)
    tables = Tables(page)
    performance = "death: performance of each row."
    assert tables.row(performance, "crl-mmnar") == ["0.800 (0.780 to 0.820)", "0.123 (0.110 to 0.130)", "0.947 ± 0.010"]
    assert tables.row(performance, "weak")[0] == "0.700 (0.680 to 0.720) ± 0.012"
    assert tables.row(performance, "exact risks")[:2] == ["0.850", ""]
    assert [row[0] for row in tables.found[performance]][1:] == [
        *("crl-mmnar", "weak", "zero-fill control", "pattern-only control", "exact risks")
    ]
    assert "no target" in page
    assert "0.111" not in page
    assert "0.222" not in page
    paired = "death: difference of AUROC from each control."
    assert tables.row(paired, "crl-mmnar") == [
        "0.050 (0.040 to 0.060) p 0.004 better",
        "0.080 (0.070 to 0.090) p <0.001 better",
    ]
    assert tables.kinds[paired, "crl-mmnar"] == ["better", "better"]
    assert tables.kinds[paired, "weak"] == ["worse", "num"]
    assert "1 of 2 rows beat every control after correction: crl-mmnar." in page
    assert "1 did worse than at least one control: weak." in page
    # the best control is zero-fill; both deep rows are held against it
    assert "Deep methods minus the best control of each task: −0.050 to 0.050 of AUROC; 1 of 2 differences" in page


def test_what_did_not_run_what_was_chosen_and_what_it_cost(comparison: StudyResult) -> None:
    page = study_html(comparison)
    tables = Tables(page)
    assert tables.row("Methods that cannot run on a data set.", "gru-d") == ["ours", "needs a modality of kind series"]
    assert "TrainingError" in tables.row("Runs without a result after a second attempt.", "ours · mt · fold 0")[0]
    assert re.search(r"<details[^>]*><summary>Traceback of ours · mt · fold 0</summary><pre>Traceback: line 7", page)
    assert 'role="alert"' in page
    assert "a word to the reader" in page
    chosen = tables.row("Settings that the searches chose.", "crl-mmnar")
    assert chosen == ["ours", "train.lr = 0.001235", "0.5123", "8", "3", "41"]
    assert tables.row("Cost of one run.", "crl-mmnar") == ["5", "30.0", "60.0", "512", "0.12", "12,345", "3.0"]
    assert tables.row("Cost of one run.", "zero-fill")[2] == "not recorded"


def test_names_are_escaped_and_nothing_is_loaded(comparison: StudyResult) -> None:
    table = comparison.tables[0]
    hostile = replace(
        comparison,
        study={**comparison.study, "title": EVIL, "notes": EVIL, "controls": (EVIL,)},
        tables=(
            replace(
                table,
                tasks={EVIL: {EVIL: numbers(0.8), "b": numbers(0.7)}},
                comparisons=(replace(compared("b", EVIL, 0.1, 0.01), task=EVIL),),
                ranks={"": {"auroc": Ranks((EVIL, "b", "c"), (1.0, 2.0, 3.0), 4, 0.03, 1.0)}},
                cost={EVIL: table.cost["crl-mmnar"]},
            ),
        ),
        failures=((EVIL, EVIL, EVIL),),
        refused=((EVIL, EVIL, EVIL),),
        notices=(EVIL,),
    )
    page = study_html(hostile)
    tables = Tables(page)
    assert "&lt;script&gt;" in page
    assert not tables.tags & {"script", "iframe", "object", "img", "base", "form"}
    for tag, name, value in tables.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "action", "srcset"), (tag, name)
        if name == "href":
            assert value == "data:," or value.startswith("#")
    assert not re.search(r"https?:|@import|url\(", page)
    assert "<script" not in study_markdown(hostile).replace("\\<script", "")


def test_average_ranks_are_drawn_where_they_belong() -> None:
    """Axis from 1 to 4 over 420 pixels; bars join what is nearer than the critical difference."""
    ranks = Ranks(("a", "b", "c", "d"), (1.0, 2.0, 2.5, 4.0), 10, 0.01, 1.5)
    assert ranks.groups() == ((0, 2), (2, 3))
    picture = str(critical_difference("AUROC", ranks))
    side = 24 + round(6.1 * 5)
    place = {rank: f"{side + (rank - 1) / 3 * 420:.1f}" for rank in (1, 2, 2.5, 4)}
    drops = re.findall(r'class="axis rank" d="M([\d.]+) 46V(\d+)H(\d+)"><title>(\w): ([\d.]+)', picture)
    assert [(name, x, average) for x, _, _, name, average in drops] == [
        ("a", place[1], "1.00"),
        ("b", place[2], "2.00"),
        ("c", place[2.5], "2.50"),
        ("d", place[4], "4.00"),
    ]
    left, right = str(side - 8), str(side + 428)
    assert [end for _, _, end, _, _ in drops] == [left, left, right, right]
    heights = [int(y) for _, y, _, _, _ in drops]
    assert heights[0] == heights[3] < heights[1] == heights[2]
    bars = re.findall(r'class="joined" d="M([\d.]+) (\d+)H([\d.]+)"><title>not told apart: ([\w, ]+)', picture)
    assert bars == [(place[1], "58", place[2.5], "a, b, c"), (place[2.5], "67", place[4], "c, d")]
    (critical,) = re.findall(r'critical" d="M(\d+) 14H([\d.]+)"', picture)
    assert float(critical[1]) - float(critical[0]) == pytest.approx(1.5 / 3 * 420, abs=0.06)


def test_the_forest_places_dots_published_marks_and_exact_risks() -> None:
    """Limits .68 to .92 and 4 % of that on either side, over 416 pixels."""
    rows = {"a": Estimate(0.7, 0.68, 0.72), "b": Estimate(0.8), "c": Estimate(None, reason="one class only")}
    picture = str(forest("AUROC", rows, {"a": 0.92, "nobody": 0.1}, 0.9, ("b",)))
    left, margin = 24 + round(6.1 * 5), 0.04 * 0.24

    def place(value: float) -> str:
        return f"{left + (value - 0.68 + margin) / (0.24 + 2 * margin) * 416:.1f}"

    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="3.5" fill="(#\w+)"', picture)
    assert dots == [(place(0.7), "30.0", BLUE), (place(0.8), "50.0", ORANGE)]
    assert re.findall(r'class="whisker" stroke="#\w+" d="M([\d.]+) 30.0H([\d.]+)"', picture) == [
        (place(0.68), place(0.72))
    ]
    assert re.findall(r'class="hollow" cx="([\d.]+)" cy="([\d.]+)"', picture) == [(place(0.92), "30.0")]
    assert re.findall(r'class="reference" d="M([\d.]+) ', picture) == [place(0.9)]
    assert "one class only" in picture


def test_ranks_of_one_race_join_nobody(comparison: StudyResult) -> None:
    alone = Ranks(("a", "b"), (1.0, 2.0), 1, None, None)
    page = study_html(replace(comparison, tables=(replace(comparison.tables[0], ranks={"": {"auroc": alone}}),)))
    assert "One race alone cannot tell any two apart." in page
    assert 'class="joined"' not in page


def test_the_ladder_shows_each_step() -> None:
    steps = (compared("+ one", "basic", 0.03, 0.01), compared("+ two", "+ one", -0.03, 0.02))
    brier = (compared("+ one", "basic", -0.002, 0.2, "brier"), compared("+ two", "+ one", 0.002, 0.01, "brier"))
    page = study_html(result_of("ladder", {"basic": 0.7, "+ one": 0.73, "+ two": 0.7}, ladder=(*steps, *brier)))
    tables = Tables(page)
    caption = "death: one step at a time."
    assert tables.row(caption, "basic") == ["0.700 (0.680 to 0.720)", "–", "–"]
    assert tables.row(caption, "+ one")[1] == "0.030 (0.020 to 0.040) p 0.010 better"
    assert tables.row(caption, "+ two")[1:] == [
        "−0.030 (−0.040 to −0.020) p 0.020 worse",
        "0.002 (−0.008 to 0.012) p 0.010 worse",
    ]
    assert "Steps that raise the AUROC after correction: + one (of 2). Steps that lower it: + two." in page


def test_sensitivity_names_the_lowest_value_of_each_parameter() -> None:
    aurocs = {"default": 0.8, "lr = 1": 0.79, "lr = 2": 0.75, "width = 8": 0.81}
    against = tuple(
        compared(row, "default", v - 0.8, 0.01 if v < 0.76 else 0.5) for row, v in aurocs.items() if "=" in row
    )
    page = study_html(result_of("sensitivity", aurocs, ("default",), comparisons=against))
    tables = Tables(page)
    caption = "death: the largest drop of AUROC by parameter."
    assert tables.row(caption, "lr") == ["1, 2", "0.750 to 0.790", "2", "−0.050 (−0.060 to −0.040) p 0.010 worse"]
    assert tables.row(caption, "width") == ["8", "0.810 to 0.810", "8", "0.010 (0.000 to 0.020) p 0.500"]
    assert "1 of 3 settings differ from the default after correction: lr = 2." in page
    assert page.count('aria-label="AUROC by ') == 2


def test_configurations_hide_small_patterns() -> None:
    few = Estimate(None, reason="fewer than 10 patients")
    share = Estimate(0.1, 0.05, 0.15)
    groups = (
        GroupRow("m0 + m1", 500, 60, share, share, Estimate(0.7), Estimate(-0.01)),
        GroupRow("other patterns", None, None, few, few, few, few),
    )
    full = compared("less", "full", -0.04, 0.01)
    page = study_html(
        result_of(
            "configurations",
            {"full": 0.8, "less": 0.76},
            ("full",),
            comparisons=(full,),
            patterns={"death": {"full": groups}},
        )
    )
    tables = Tables(page)
    caption = next(c for c in tables.found if c.startswith("death: full by observation pattern"))
    assert tables.row(caption, "m0 + m1") == [
        "500",
        "60",
        "10.0 % (5.0 to 15.0)",
        "10.0 % (5.0 to 15.0)",
        "0.700",
        "−0.010",
    ]
    assert tables.row(caption, "other patterns") == ["<10", "<10", *["few patients"] * 4]
    assert tables.row("death: difference of AUROC from each control.", "less")[0].startswith("−0.040")


def test_embedding_says_how_little_decoding_proves() -> None:
    known = Embedding(0.923, 0.31, (10.7, 13.4), {"death": (0.67, 0.0001)}, 16, 4000)
    page = study_html(result_of("embedding", {"crl-mmnar": 0.8}, embedding={"crl-mmnar": known}))
    tables = Tables(page)
    caption = "Reading the pattern off a representation, in patients that were not trained on."
    assert tables.row(caption, "crl-mmnar") == ["4,000", "16", "92.3 %", "31.0 %", "10.70 to 13.40"]
    assert "decoding proves little" in page
    assert any(row[-2:] == ["0.67", "<0.001"] for rows in tables.found.values() for row in rows)


def test_tests_that_cannot_survive_are_not_held_against_anyone(comparison: StudyResult) -> None:
    """200 resamples give no p below 2 / 201, so of five tests none below .0498, and of six none below .0597."""
    six = tuple(compared(f"row {i}", "zero-fill", -0.2, 0.06) for i in range(6))
    for tests, warned in ((six[:5], False), (six, True)):
        few = replace(
            comparison,
            study={**comparison.study, "resamples": 200},
            tables=(replace(comparison.tables[0], comparisons=tests),),
        )
        assert ("no difference of AUROC can survive here" in study_html(few)) is warned
        assert ("beat every control" in study_html(few)) is not warned


def test_a_result_goes_to_json_and_back(comparison: StudyResult, tmp_path: Path) -> None:
    atlas = availability(planted("single", 300))
    whole = replace(comparison, tables=(replace(comparison.tables[0], atlas=atlas),))
    whole.save(tmp_path / "result.json")
    again = load_result(tmp_path / "result.json")
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "result.json").read_bytes()
    assert again.tables == whole.disclosed().tables
    assert study_html(again) == study_html(whole.disclosed())
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(StoreError, match="result of a study"):
        load_result(tmp_path / "other.json")


def test_a_slim_result_makes_the_same_page_and_tells_no_paths(comparison: StudyResult, tmp_path: Path) -> None:
    plain = replace(comparison, failures=(("ours · mt", "TrainingError: a/b of /secret/place/log.txt", ""),))
    save_slim(comparison, tmp_path / "slim.json")
    text = (tmp_path / "slim.json").read_text()
    assert "/secret" not in text
    assert "log.txt" in text
    assert "Traceback" not in text
    assert "elsewhere" not in text
    assert study_markdown(replace(load_result(tmp_path / "slim.json"), failures=())) == study_markdown(
        replace(comparison, failures=())
    )
    save_slim(plain, tmp_path / "slim.json")
    assert load_result(tmp_path / "slim.json").failures[0][1] == "TrainingError: a/b of log.txt"


def test_of_a_file_of_weights_its_name_alone_is_told(comparison: StudyResult, tmp_path: Path) -> None:
    key, file = "model.image.weights", "/mine/weights/resnet.pth"
    rows = [{**row, "set": {key: file}} for row in comparison.study["rows"]]
    search = {"trials": 2, "fold": 0, "space": {key: [file, "/mine/other.pth"]}}
    chosen = [{**of, "settings": {key: file}} for of in comparison.chosen]
    assert chosen
    told = replace(comparison, study={**comparison.study, "rows": rows, "search": search}, chosen=tuple(chosen))
    page = study_html(told)
    save_slim(told, tmp_path / "slim.json")
    for text in (page, study_markdown(told), (tmp_path / "slim.json").read_text()):
        assert "/mine" not in text
    assert page.count("resnet.pth") > len(rows)
    assert "other.pth" in page
    assert told.study["rows"] == rows  # what runs is as it was


def test_the_terminal_is_brief(comparison: StudyResult) -> None:
    text = study_text(comparison)
    assert re.search(r"crl-mmnar +0\.050\* +0\.080\*\n", text)
    assert re.search(r"weak +−0\.050\* +−0\.020\n", text)
    assert "* survives Holm's correction" in text
    assert "Traceback" not in text
    assert "gru-d on ours: needs a modality of kind series" in text


def run(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


def test_a_study_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_store(tmp_path / "store", planted("pattern", 400))
    (tmp_path / "study.yaml").write_text(
        f"title: Tiny\ndata: {{planted: {{store: {store}}}}}\nrows: {{logistic-pattern: {{}}, pattern-only: {{}}}}\n"
        "folds: 2\nset: {rectifier.rule: none}\ncontrols: [pattern-only]\nresamples: 200\n"
    )
    spec_study = study_of(
        {
            "title": "Tiny",
            "data": {"planted": {"store": str(store)}},
            "rows": {"logistic-pattern": {}, "pattern-only": {}},
            "folds": 2,
            "set": {"rectifier.rule": "none"},
            "controls": ["pattern-only"],
            "resamples": 200,
        }
    )
    result = judge(run_study(spec_study, tmp_path / "s", Inline(), Quiet())).disclosed()
    auroc = result.tables[0].tasks["outcome"]["logistic-pattern"].metrics["auroc"].value or 0.0
    run(["study", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "s")])
    page = (tmp_path / "s" / "report.html").read_text()
    tables = Tables(page)
    assert tables.row("outcome: performance of each row.", "logistic-pattern")[0].startswith(f"{auroc:.3f} (")
    assert f"{auroc:.3f}" in (tmp_path / "s" / "tables.md").read_text()
    assert tables.row("Data sets, scored in all test folds together.", "planted")[:2] == ["400", "400"]
    run(["study-page", str(tmp_path / "s" / "slim.json"), "--out", str(tmp_path / "again")])
    assert (tmp_path / "again" / "tables.md").read_text() == (tmp_path / "s" / "tables.md").read_text()
    assert "report:" in capsys.readouterr().out


def test_a_study_without_rows_shows_who_has_what(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", planted("severity", 400))
    spec = study_of({"title": "Who has what", "layout": "availability", "data": {"planted": {"store": str(store)}}})
    engine = Inline()
    result = judge(run_study(spec, tmp_path / "s", engine, Quiet()))
    assert engine.done == []
    page = study_html(result)
    tables = Tables(page)
    assert tables.row("Data sets.", "planted")[:2] == ["400", "400"]
    atlas = result.tables[0].atlas
    assert atlas is not None
    assert tables.row("Outcome rate by pattern.", atlas.patterns[0].label)[0] == str(atlas.patterns[0].n)
    assert "Number of samples and outcome rate by observation pattern" in page
    assert "severity" not in json.dumps(result.study["rows"])
    save_slim(result, tmp_path / "slim.json")
    assert study_html(load_result(tmp_path / "slim.json")) == page


def test_too_few_patients_to_train_on_can_still_be_described(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", planted("severity", 400))
    data = {"few": {"store": str(store), "subjects": 12}}
    spec = study_of({"title": "Few", "layout": "availability", "data": data})
    page = study_html(judge(run_study(spec, tmp_path / "s", Inline(), Quiet())))
    assert Tables(page).row("Data sets.", "few")[:2] == ["12", "12"]
    assert "few outcomes" in page


def test_a_browser_finds_nothing_to_complain_about(comparison: StudyResult, tmp_path: Path) -> None:
    assert browse(write_study(comparison, tmp_path)[0], tmp_path / "profile") == ([], [])
