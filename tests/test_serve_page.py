"""The page for trying a patient, in a real browser: by keyboard, on a phone, and what it shows is what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import Browser
from tests.serving import TOKEN, Served
from tests.test_serve import GOOD, meds, table

pytest.importorskip("uvicorn")
__all__ = ["meds", "table"]

OPENED = "!document.getElementById('ask').hidden || !document.getElementById('problem').hidden"
ANSWERED = "!document.getElementById('answer').hidden || !document.getElementById('problem').hidden"
TEXT = "document.body.innerText"
NAMELESS = "[...document.querySelectorAll('input, select')].filter(e => !e.labels[0]?.innerText.trim()).map(e => e.id)"
FAINT = """(() => {
  const light = (css) => {
    const [r, g, b] = css.match(/[\\d.]+/g).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => {
    const colour = getComputedStyle(e).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" && e.parentElement ? behind(e.parentElement) : colour; };
  return [...document.body.querySelectorAll("*")].filter((e) => e.checkVisibility() && e.innerText?.trim())
    .filter((e) => {
      const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5; }).map((e) => e.outerHTML); })()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def enter(browser: Browser, served: Served, token: str = TOKEN) -> None:
    browser.open(f"http://127.0.0.1:{served.port}/")
    browser.press("Tab", 9)
    browser.write(token)
    browser.press("Enter", 13)
    browser.wait(OPENED)


def fill(browser: Browser, field: str, value: Any) -> None:
    browser.run(f"document.querySelector({field!r}).focus()")
    browser.write(str(value))


def submit(browser: Browser) -> str:
    browser.press("Enter", 13)
    browser.wait(ANSWERED)
    return str(browser.run(TEXT))


def percent(risk: float) -> str:
    return f"{100 * risk:.1f} %"


def test_a_row_by_keyboard_shows_what_the_service_answers(browser: Browser, table: Served) -> None:
    browser.requests.clear()
    browser.console.clear()
    enter(browser, table)
    assert browser.run("document.activeElement.dataset.column") == "person"
    assert "Research use only; not a medical device." in browser.run(TEXT)
    fill(browser, "[data-column=left]", "no")
    fill(browser, "[data-column=age]", 70)
    fill(browser, "[data-column=lactate]", 3.1)
    browser.run("document.querySelector('[data-column=ward]').value = 'surgery'")
    fill(browser, "[data-column=crp]", 20)
    shown = submit(browser)
    row = {**GOOD, "person": "1", "visit": "1", "lactate": "3.1", "crp": "20"}
    (patient,) = table.patients({"rows": [row]})
    task = patient["tasks"]["death"]
    wanted = [f"Risk\n{percent(task['risk'])}", f"Spread\n{' to '.join(map(percent, task['spread']))}"]
    wanted += ["no confidence interval", f"{patient['pattern']} (basics, labs, image; 1 = present)"]
    wanted += [f"Training patients\n{patient['training_patients']} with this pattern", "Absent\nimage"]
    for line in wanted:
        assert line in shown, (line, shown)
    assert browser.run("document.activeElement.id") == "answered"
    assert browser.run(NAMELESS) == []
    assert browser.run(FAINT) == []
    assert browser.console == []
    assert {request.rsplit("/", 1)[0] for request in browser.requests} == {f"http://127.0.0.1:{table.port}"}
    fill(browser, "[data-column=lactate]", 9)  # 3.19: the old answer goes
    assert browser.run("document.getElementById('answer').hidden")


def test_refusals_are_shown(browser: Browser, table: Served) -> None:
    enter(browser, table, "a wrong token, long enough")
    assert "token: expected" in browser.run("document.querySelector('[role=alert]').innerText")
    assert browser.run(FAINT) == []
    enter(browser, table)
    fill(browser, "[data-column=lactate]", 31)
    shown = submit(browser)
    assert "No risk is given\n'lactate' lies outside the run's plausible range" in shown
    fill(browser, "[data-column=age]", "old")
    browser.press("Enter", 13)
    browser.wait("!document.getElementById('problem').hidden")
    assert browser.run("document.getElementById('answer').hidden")


def test_events_on_a_phone(browser: Browser, meds: Served) -> None:
    browser.send("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    enter(browser, meds)
    browser.run("document.getElementById('at').value = '2150-01-02T08:00'")
    fill(browser, "#event-1-code", "VITALS//HR")
    browser.run("document.getElementById('event-1-time').value = '2150-01-01T08:00'")
    fill(browser, "#event-1-number", 80)
    fill(browser, "#event-2-code", "GENDER//F")
    fill(browser, "#event-3-code", "LAB//lactate")
    browser.run("document.getElementById('event-3-time').value = '2150-01-03T08:00'")
    fill(browser, "#event-3-number", 4)
    shown = submit(browser)
    events = [
        {"subject_id": 1, "time": "2150-01-01T08:00", "code": "VITALS//HR", "numeric_value": 80},
        {"subject_id": 1, "time": None, "code": "GENDER//F"},
    ]
    (patient,) = meds.patients({"events": events, "at": [{"subject_id": 1, "prediction_time": "2150-01-02T08:00"}]})
    risk, rectified = (percent(patient["tasks"]["death"][name]) for name in ("risk", "rectified"))
    assert f"Risk\n{risk}\nRectified for the pattern\n{rectified}\n" in shown
    assert risk != rectified
    assert "Events known only later, not used\n1" in shown
    assert browser.run("document.documentElement.scrollWidth") <= 360
    assert browser.run(NAMELESS) == []
    assert browser.run(FAINT) == []
