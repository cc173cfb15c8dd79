"""The same blocks as a page, as Markdown and on a terminal: nothing is lost, nothing gets through unescaped."""

from __future__ import annotations

import re
from html import unescape

import pytest
from markupsafe import Markup

from mmnar.render.blocks import (
    Block,
    Cell,
    Code,
    Figure,
    Flow,
    Flows,
    Fold,
    Heading,
    Listing,
    Page,
    Paragraph,
    Picture,
    Section,
    Step,
    facts,
    named,
    table_of,
)
from mmnar.render.markdown import markdown_of
from mmnar.render.page import html_of
from mmnar.render.svg import svg, text
from mmnar.render.text import block_lines

EVIL = '<script src="//x.invalid">&'


def html(*blocks: Block) -> str:
    page = html_of(Page("Kind", "Title", (Section("One", blocks),)))
    return page[page.index("<main") : page.index("</main>")]


def markdown(*blocks: Block) -> str:
    return markdown_of(Page("Kind", "Title", (Section("One", blocks),)))


def every_block(said: str) -> tuple[Block, ...]:
    cell = Cell(said, "num", said, said, full=said)
    table = table_of(said, (said, said), [[named(said, said), cell]], {1: said}, "grid")
    picture = svg(10, 10, said, [text(0, 0, said)])
    return (
        Heading(said),
        Paragraph(said, "warning"),
        Listing((said,)),
        table,
        Figure(said, (Picture(picture, said),), "small", numbers=table),
        Flows((Flow(said, (Step(said, said, said, said, 0.5, said),)),)),
        facts({said: said, "list": [said], "mapping": {said: said}}),
        Fold(said, (Code(said), table)),
    )


def test_whatever_a_text_holds_it_stays_text() -> None:
    page = html(*every_block(EVIL))
    assert "<script" not in page
    assert not re.search(r'"//x', page)
    assert unescape(page).count(EVIL) > 20
    whole = html_of(Page(EVIL, EVIL, (Section(EVIL, ()),), EVIL, EVIL, (EVIL,), EVIL))
    assert whole.count("&lt;script") == 9  # the title stands in the head, too, a section's in the contents
    assert "<script" not in whole
    assert "<script" not in markdown(*every_block(EVIL)).replace("\\<script", "")


def test_a_table_has_the_same_rows_everywhere() -> None:
    rows = [[named("a", "control"), Cell("0.81 (0.79 to 0.83)", "better", "better", "p 0.01", "0.81*")]]
    table = table_of("Caption.", ("Row", "AUROC"), rows)
    page = " ".join(unescape(re.sub(r"<[^>]+>", " ", html(table))).split())
    assert "Caption. Row AUROC a control 0.81 (0.79 to 0.83) p 0.01 better" in page
    assert "| Row | AUROC |\n| --- | --- |\n| a (control) | **0.81 (0.79 to 0.83) p 0.01 (better)** |" in markdown(
        table
    )
    assert block_lines([table]) == ["Row  AUROC", "a    0.81*"]


def test_a_figure_shows_its_numbers_where_there_are_no_pictures() -> None:
    numbers = table_of("Net benefit.", ("Threshold", "Model"), [[named("0.1"), Cell("0.0421")]])
    figure = Figure("Decision curve.", (Picture(svg(10, 10, "curve", [Markup('<path d="M0 0"/>')])),), numbers=numbers)
    page = html(figure)
    assert page.count("<svg") == 1
    assert re.search(r"<details><summary>The figure as a table</summary>.*0\.0421", page, re.S)
    assert "| 0.1 | 0.0421 |" in markdown(figure)
    assert "svg" not in markdown(figure)
    assert block_lines([figure]) == ["Threshold   Model", "0.1        0.0421"]


def test_a_flow_is_boxes_on_a_page_and_a_table_elsewhere() -> None:
    steps = (
        Step("all", "900 stays", "850 patients", "none left out", 1.0),
        Step("adults", "800 stays", "760 patients", "100 left out", 0.889, "uses hindsight"),
    )
    flows = Flows((Flow("Cohort", steps),))
    page = html(flows)
    assert page.count('class="kept"') == 2
    assert page.count('class="out"') == 1
    assert 'class="tag warn">uses hindsight<' in page
    assert "| adults | 800 stays | 760 patients | 100 left out | uses hindsight |" in markdown(flows)
    assert block_lines([flows])[0] == "Cohort"
    adults = " ".join(block_lines([flows])[3].split())
    assert adults == "adults 800 stays 760 patients 100 left out uses hindsight"


@pytest.mark.parametrize(("look", "classes"), [("", "<details>"), ("long", '<details class="long">')])
def test_folds_open_on_paper_unless_they_are_long(look: str, classes: str) -> None:
    page = html_of(Page("Kind", "Title", (Section("One", (Fold("Title", (Code("text"),), look=look),)),)))  # type: ignore[arg-type]
    assert classes in page
    printed = page[page.index("@media print") :]
    assert "details:not(.long)::details-content { content-visibility: visible" in printed


def test_refusals_say_why_and_marks_stay_on_the_page() -> None:
    mark = svg(10, 10, "0.81", [Markup('<path d="M0 0"/>')], "mark")
    rows = [[named("a"), Cell("0.81", mark=mark)], [named("b"), Cell("few", "refused", full="fewer than 10 patients")]]
    table = table_of("Caption.", ("Row", "AUROC"), rows, {1: "drawn"})
    page = html(table)
    assert page.count('class="markcell"') == 2
    assert 'title="fewer than 10 patients"' in page
    assert "| a | 0.81 |\n| b | *few* |" in markdown(table)
    assert "drawn" not in markdown(table) + "".join(block_lines([table]))


def test_markdown_that_is_all_there_is_has_what_a_page_folds() -> None:
    inner = (Code('{"a": 1}'), facts({"b_c": ["d", "e"]}), table_of("T.", ("x",), [[named("y")]]))
    page = Page("Kind", "Title", (Section("One", (Fold("More", inner), facts({"f": "g"}))),))
    assert "More" not in markdown_of(page)
    text = markdown_of(page, unfolded=True)
    for part in ("#### More", '```\n{"a": 1}\n```', "- b c: d; e", "| x |", "- f: g"):
        assert part in text
