"""Pages in a real browser: axe-core finds no violation, and a print is short, numbered and without what is folded."""

from __future__ import annotations

import html
import json
import re
import subprocess
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from mmnar.errors import RequirementError
from mmnar.evaluation import evaluate
from mmnar.render import pdf
from mmnar.report.inputs import ReportInputs
from mmnar.report.runs import write_report
from mmnar.roles import Test
from tests.conftest import draw_predictions
from tests.report.test_render import CSP, chromium

FOUND = re.compile(r'<pre id="axe">(.*?)</pre>', re.DOTALL)
ASK = """axe.run({exclude: [['svg > *']]}).then(found => {
  const told = document.createElement('pre');
  told.id = 'axe';
  told.textContent = JSON.stringify(found.violations.map(v => [v.id, v.nodes.length, v.nodes[0].html]));
  document.body.append(told);
});"""
# shades of scrolling boxes: axe cannot read a contrast off a gradient
PLAIN = "<style>.scroll { background: none !important; }</style>"


@pytest.fixture(scope="module")
def page(inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small report with every kind of section."""
    good = draw_predictions(900, Test, tasks=("death",))
    flat = good.with_proba(good.proba[::-1], model="flat")
    result = evaluate(good, flat, controls=["flat"], resamples=20)
    small = replace(inputs, result=result, runs=inputs.runs[:2])
    return write_report(small, tmp_path_factory.mktemp("accessible"))


def violations(page: Path, folder: Path) -> list[tuple[str, int, str]]:
    """Rules of axe-core that the page breaks, everything unfolded: rule, how often, the first place."""
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    text = CSP.sub("", page.read_text()).replace("<details", "<details open").replace("</head>", PLAIN + "</head>")
    asking = folder / "asking.html"
    asking.write_text(text.replace("</body>", f"<script>{axe}</script><script>{ASK}</script></body>"), encoding="utf-8")
    flags = f"--headless --no-sandbox --disable-gpu --no-first-run --user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [chromium(), *flags.split(), "--virtual-time-budget=60000", "--dump-dom", asking.as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    found = FOUND.search(done.stdout)
    assert found, done.stderr[-2000:]
    return [tuple(row) for row in json.loads(html.unescape(found[1]))]


def test_axe_finds_no_violation(page: Path, tmp_path: Path) -> None:
    assert violations(page, tmp_path) == []


def test_axe_can_find_one(tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<html lang='en'><head><title>t</title></head><body><main><h1>t</h1><p style='color: #ddd'>pale</p>"
        "<svg role='img' width='9' height='9'></svg></main></body></html>"
    )
    assert {rule for rule, *_ in violations(bad, tmp_path)} == {"color-contrast", "svg-img-alt"}


def pages_of(printed: Path) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))


def test_a_print_leaves_out_what_is_folded(page: Path, tmp_path: Path) -> None:
    chromium()
    opened = tmp_path / "opened.html"
    opened.write_text(page.read_text().replace("<details><summary><h2", "<details open><summary><h2"))
    for source in (page, opened):
        pdf.write_pdf(source, tmp_path / f"{source.stem}.pdf")
    short, long = pages_of(tmp_path / "report.pdf"), pages_of(tmp_path / "opened.pdf")
    assert 2 <= short <= 6  # one question
    assert long >= short + 5


def test_without_a_browser_a_pdf_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pdf, "BROWSERS", pdf.BROWSERS[:-1])
    with pytest.raises(RequirementError, match="expected Chromium, Chrome or Edge to print it, got none on PATH"):
        pdf.browser()
