"""The report: complete, offline, escaped, without small cells, and quiet in a real browser."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmnar.evaluation.result import Estimate, ModelTask, OracleBound, Result
from mmnar.report.inputs import ReportInputs, RunRecord, StoreFacts
from mmnar.report.runs import write_report

CSP = re.compile(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>")
NUMBER = re.compile(r"(?<![\w.,-])−?\d[\d,]*(?:\.\d+)?(?![\w-])")
WORDED = {"95", "90", "10", "100"}  # interval levels, the small-cell limit, "of 100 pairs"


@pytest.fixture(scope="module")
def page(inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(inputs, tmp_path_factory.mktemp("report"))


def visible_text(page: str) -> str:
    """What a reader sees outside charts, headings' numbers and folded JSON."""
    for dropped in ("style", "svg", "pre", "code", "nav", "h2", "dt"):
        page = re.sub(rf"<{dropped}\b.*?</{dropped}>", " ", page, flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for v in value.values():
            yield from leaves(v)
    elif isinstance(value, list):
        for v in value:
            yield from leaves(v)
    else:
        yield value


def printed_forms(document: Any) -> set[str]:
    forms = set()
    for leaf in leaves(document):
        if isinstance(leaf, str):
            forms |= {m.group() for m in NUMBER.finditer(leaf)}
        elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
            scaled = (leaf, 100 * leaf)
            forms |= {f"{v:,.{d}f}".replace("-", "−") for v in scaled for d in range(5)} | {str(leaf)}
    return forms | {f.removeprefix("−") for f in forms if not f.strip("−0.")}


def test_every_number_is_in_the_json(page: Path) -> None:
    document = json.loads((page.parent / "result.json").read_text())
    known = printed_forms(document) | WORDED
    # the outcome rate of the test fold is the one figure made of two: events / n
    known |= {f"{100 * c['events'] / c['n']:.1f}" for c in document["counts"].values()}
    known |= {"99"}  # the share of samples that makes a modality "always observed"
    found = {m.group() for m in NUMBER.finditer(visible_text(page.read_text()))}
    assert len(found) > 200
    assert not {f for f in found - known if f not in ("0.001",)}


def test_model_names_are_escaped(inputs: ReportInputs, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    tasks = {t: {evil: next(iter(m.values()))} for t, m in inputs.result.tasks.items()}
    run = RunRecord(evil, {"paper": evil}, {"name": evil}, inputs.runs[0].history)
    hostile = replace(
        inputs, title=evil, result=replace(inputs.result, tasks=tasks), runs=(run,), versions={evil: evil}
    )
    text = write_report(hostile, tmp_path).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_small_cells_are_never_shown(page: Path) -> None:
    for text in (page.read_text(), (page.parent / "result.json").read_text()):
        assert "0.7431" not in text
        assert "age 18 or more; stay of 12 h or more" in text
    assert "<10" in visible_text(page.read_text())


def test_a_large_group_beside_a_small_one_shows_its_auroc_without_its_counts(page: Path) -> None:
    rows = re.findall(r'<tr><th scope="row">M</th>.*?</tr>', page.read_text(), re.DOTALL)
    performance = [row for row in rows if "withheld" in row]  # the others are of the atlas
    assert performance
    for row in performance:
        cells = [" ".join(visible_text(c).split()) for c in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        assert [cells[i] for i in (0, 1, 2, 5)] == ["withheld"] * 4
        assert all(NUMBER.search(cells[i]) for i in (3, 4))  # mean risk and AUROC


def test_refused_metrics_say_why(page: Path) -> None:
    text = visible_text(page.read_text())
    assert "not given: no test patient had the outcome in one fold" in text
    assert "not given: one class only" in text


def test_nothing_is_loaded_from_elsewhere(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"(?:src|href|action|data|url)\s*[=(]\s*[\"']?\s*(?:https?:)?//", text, re.I)
    assert not re.search(r"@import|<script|<iframe|<object", text, re.I)
    assert page.stat().st_size < 5_000_000


def test_wording_stays_within_what_offsets_mean(page: Path) -> None:
    text = page.read_text().lower()
    assert "calibration offset" in text
    for word in ("causal", "treatment effect", "counterfactual", "caused by"):
        assert word not in text


def test_differences_that_do_not_survive_are_said_plainly(page: Path) -> None:
    text = visible_text(page.read_text())
    assert "Against the control late-fusion no difference was shown" in text  # on readmission
    assert "It ranked patients better than the control late-fusion" in text
    rows = re.findall(r"<tr><th scope=\"row\">crl-mmnar</th><td><span>gradient-boosting.*?</tr>", page.read_text())
    assert "no difference shown" in rows[0]
    assert "Research only." in text
    assert "uses hindsight" in text


def test_the_page_answers_first_and_folds_the_rest(page: Path) -> None:
    text = page.read_text()
    answers = " ".join(visible_text(text[text.index("Answers</h2>") : text.index("How to read this</h2>")]).split())
    assert re.search(
        r"Mortality death in hospital; asked: 48 h .*? crl-mmnar ranks 83 .*? better than late-fusion", answers
    )
    assert "no better than late-fusion was shown" in answers
    assert "the first one named" in answers  # nobody gave risks out of fold
    sections = re.findall(r'<section aria-labelledby="s\d+"( class="more")?>\s*(<details>)?', text)
    assert sections[:4] == [("", "")] * 4
    assert set(sections[4:]) == {(' class="more"', "<details>")}


def test_outcomes_go_by_titles_on_the_page_and_by_names_in_the_json(page: Path) -> None:
    assert "Post discharge ICU" in visible_text(page.read_text())
    assert "post_discharge_icu" not in visible_text(page.read_text())
    assert "Post discharge ICU" not in (page.parent / "result.json").read_text()


def test_each_fit_is_a_line_of_its_own(page: Path) -> None:
    text = page.read_text()
    chart = text[text.index("Training curves of crl-mmnar") :]
    lines = re.findall(r'<polyline stroke="(#\w+)" stroke-dasharray="([^"]*)"', chart[: chart.index("</svg>")])
    assert len(lines) == len(set(lines)) == 6  # three fits, in training and in tuning
    assert len({colour for colour, _ in lines}) == 3
    legend = visible_text(chart[chart.index("</svg>") : chart.index("</ul>")])
    assert [legend.count(f"patients, {fit}") for fit in ("final", "out-of-fold 1", "out-of-fold 2")] == [2, 2, 2]


def test_a_column_of_marks_has_an_axis_and_says_which_side_is_good(page: Path) -> None:
    text = page.read_text()
    table = text[text.index("Mortality: Brier, model minus control.") :]
    head = table[table.index("<thead>") : table.index("</thead>")]
    assert "← better" in head
    assert len(re.findall(r'<text [^>]*class="tick"', head)) >= 3
    assert "better →" in text[text.index("Mortality: AUROC, model minus control.") :].partition("</thead>")[0]


def test_a_leakage_alarm_is_seen(inputs: ReportInputs, tmp_path: Path) -> None:
    models = dict(inputs.result.tasks["mortality"])
    entry = models["crl-mmnar+rectifier"]
    bound = OracleBound(Estimate(0.003, 0.001, 0.005), 0.093, True, "Look for labels of scored patients.")
    models["crl-mmnar+rectifier"] = replace(entry, oracle=bound)
    result = replace(inputs.result, tasks={**inputs.result.tasks, "mortality": models})
    text = write_report(replace(inputs, result=result), tmp_path).read_text()
    assert text.count('role="alert"') == 2
    assert "Leakage alarm" in visible_text(text)


def test_a_bare_result_renders(tmp_path: Path) -> None:
    refused = Estimate(None, reason="one class only")
    result = Result({"death": {"only": ModelTask({"auroc": refused})}}, {})
    text = visible_text(write_report(ReportInputs("Bare", StoreFacts({}), result), tmp_path).read_text())
    assert "No AUROC can be given: one class only." in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "result.json"]


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if os.environ.get("MMNAR_REQUIRE_CHROMIUM") == "1":
            pytest.fail("MMNAR_REQUIRE_CHROMIUM=1, but no chromium executable is on PATH")
        pytest.skip("no chromium executable on PATH")
    return found


# what the browser asks of its maker by itself, with an empty page too
OWN_ERRANDS = ("clients2.google.com", "update.googleapis.com", "accounts.google.com", "www.google.com")


def host_of(request: str) -> str:
    """Host of a proxy request line: ``GET http://host/path`` or ``CONNECT host:443``."""
    return re.split(r"[/:]", request.split(" ")[1].removeprefix("http://"))[0]


class RecordingProxy:
    """A loopback port that notes the first line of every request and answers none."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                self.requests.append(connection.recv(4096).split(b"\r\n")[0].decode(errors="replace"))

    def close(self) -> None:
        self._server.close()


def browse(page: Path, profile: Path) -> tuple[list[str], list[str]]:
    """(console messages, outside requests) of opening ``page``."""
    executable, proxy = chromium(), RecordingProxy()
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --enable-logging=stderr --v=0"
    done = subprocess.run(
        [
            executable,
            *flags.split(),
            f"--user-data-dir={profile}",
            f"--proxy-server=127.0.0.1:{proxy.port}",
            "--virtual-time-budget=2000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    proxy.close()
    assert "</html>" in done.stdout, done.stderr[-2000:]
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line], [
        r for r in proxy.requests if " " in r and host_of(r) not in OWN_ERRANDS
    ]


def test_chromium_finds_nothing_to_complain_about(page: Path, tmp_path: Path) -> None:
    assert browse(page, tmp_path / "profile") == ([], [])


@pytest.mark.parametrize(
    ("injected", "seen_in"),
    [
        ("<script>throw new Error('planted')</script>", 0),
        ("<img src='http://planted.invalid/x.png'>", 1),
        ("<link rel='stylesheet' href='http://planted.invalid/x.css'>", 1),
    ],
)
def test_the_browser_check_can_fail(page: Path, tmp_path: Path, injected: str, seen_in: int) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(CSP.sub("", page.read_text()).replace("</main>", injected + "</main>"), encoding="utf-8")
    assert any("planted" in line for line in browse(bad, tmp_path / "profile")[seen_in])


def test_the_page_itself_forbids_outside_requests(page: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    text = page.read_text().replace("</main>", "<img src='http://planted.invalid/x.png'></main>")
    bad.write_text(text, encoding="utf-8")
    console, requests = browse(bad, tmp_path / "profile")
    assert console
    assert requests == []
