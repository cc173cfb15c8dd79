"""The parts of a study's page that say what was run, what was not, and what it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmnar.render.blocks import Block, Cell, Code, Fold, Heading, Paragraph, named, pretty, table_of
from mmnar.render.cells import plain_cell
from mmnar.render.wording import count, metric_text, number, some
from mmnar.report.parts.models import versions_of
from mmnar.report.parts.performance import meanings
from mmnar.report.study.cells import tag_of
from mmnar.study.result import StudyResult
from mmnar.study.saved import without_places
from mmnar.study.spec import BY


def what_was_run(result: StudyResult) -> Iterator[Block]:
    """The study in plain language, and everything that kept a row from running."""
    study = result.study
    if study["notes"]:
        yield Paragraph(str(study["notes"]).strip())
    yield Paragraph(_plan(study))
    yield _data(result)
    if study["rows"]:
        yield _rows(result)
    yield from _gaps(result)
    explained = [name for name in study["metrics"] if metric_text(name).meaning]
    if study["rows"] and explained:
        yield meanings(explained)


def _plan(study: Mapping[str, Any]) -> str:
    if not study["rows"]:
        return f"{some(len(study['data']), 'data set')}; nothing is trained."
    text = (
        f"{some(len(study['rows']), 'row')} on {some(len(study['data']), 'data set')}: "
        f"{some(study['folds'], 'fold')} by patient × {some(len(study['seeds']), 'seed')} of training, the same for "
        "every row."
    )
    if study["along"]:
        (key, values), names = (
            next(iter(study["along"].items())),
            [name.rpartition(BY)[0] for name in study["settings"]],
        )
        text += f" Settings: {'; '.join(dict.fromkeys(names))}. Each at {key} = {', '.join(f'{v:g}' for v in values)}."
    elif len(study["settings"]) > 1:
        text += f" Settings: {', '.join(study['settings'])}."
    search = study["search"]
    if not search:
        return f"{text} No settings were searched: all rows have their defaults, or what the study sets."
    return (
        f"{text} Settings of each row: the best of at most {some(search['trials'], 'trial')}, the defaults among "
        f"them, by log loss on the tune patients of fold {search['fold']}. These are scored in no fold."
    )


def _data(result: StudyResult) -> Block:
    trained = bool(result.study["rows"])
    body = []
    for data in result.study["data"]:
        tables = [t for t in result.tables if t.data == data["name"]]
        sizes = [Cell(count(n)) for n in (tables[0].samples, tables[0].patients)] if tables else [plain_cell(None)] * 2
        split = [Cell(_split(data["split"]), "")] if trained else []
        body.append([named(data["name"]), *sizes, *split, Cell(_fingerprint(result, data["name"]), "")])
    head = ("Data", "Samples", "Patients", *(["Split"] if trained else []), "Fingerprint")
    return table_of("Data sets, scored in all test folds together." if trained else "Data sets.", head, body)


def _split(own: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in own.items()) or "cross-validation by patient"


def _fingerprint(result: StudyResult, name: str) -> str:
    known: Mapping[str, str] = result.provenance.get("data", {})
    return known.get(name, "not recorded")


def _rows(result: StudyResult) -> Block:
    body = []
    for row in without_places(result.study["rows"]):
        settings = [f"{key} = {value}" for key, value in row["set"].items()]
        settings += [f"only {', '.join(row['modalities'])}"] if row["modalities"] else []
        settings += ["judged after the rectifier"] if row["rectified"] else []
        if row["best_of"]:
            settings = [f"in each fold the best of {', '.join(row['best_of'])}, by log loss out of fold"]
        method = Cell(row["model"], "") if row["model"] else Cell("–", "muted")
        body.append([named(row["name"], tag_of(result, row["name"])), method, _long(settings)])
    return table_of("Rows.", ("Row", "Method", "Of its own"), body)


def _long(parts: list[str]) -> Cell:
    return Cell("; ".join(parts) or "–", "" if parts else "muted")


def _gaps(result: StudyResult) -> Iterator[Block]:
    """What could not run, what failed, what must be known."""
    if result.refused:
        body = [[named(row), Cell(data, ""), Cell(why, "")] for data, row, why in result.refused]
        yield Heading("What cannot run")
        yield table_of("Methods that cannot run on a data set.", ("Row", "Data", "Why"), body)
    if result.failures:
        yield Heading("What failed")
        yield Paragraph("A row without all of its folds and seeds has no numbers anywhere below.", "warning")
        body = [[named(label), Cell(error, "")] for label, error, _ in result.failures]
        yield table_of("Runs without a result after a second attempt.", ("Run", "Error"), body)
        for label, _, trace in result.failures:
            if trace:
                yield Fold(f"Traceback of {label}", (Code(trace),), look="long")
    for notice in result.notices:
        yield Paragraph(notice, "warning")


def chosen(result: StudyResult) -> Iterator[Block]:
    """What each search chose, and which rows were best by risks out of fold."""
    yield from _best(result)
    if not result.chosen:
        return
    body = [
        [
            named(of["row"]),
            Cell(of["data"], ""),
            _long([f"{key} = {_short(value)}" for key, value in of["settings"].items()] or ["the defaults"]),
            Cell(number(of["tune_loss"], 4)),
            Cell(str(of["trials"])),
            Cell(str(of["pruned"])),
            Cell(number(of["seconds"], 0)),
        ]
        for of in without_places(result.chosen)
    ]
    yield Paragraph(
        "Chosen by log loss on tune patients, who are scored in no fold; folds and seeds share a row's settings.",
        "note",
    )
    head = ("Row", "Data", "Chosen", "Tune loss", "Trials", "Stopped early", "Seconds")
    yield table_of("Settings that the searches chose.", head, body)


def _best(result: StudyResult) -> Iterator[Block]:
    body = [
        [named(row), Cell(table.data, ""), Cell(table.setting, ""), Cell(question, ""), Cell(", ".join(members), "")]
        for table in result.tables
        for row, questions in table.best.items()
        for question, members in questions.items()
    ]
    if body:
        caption = "Rows that were best by log loss out of fold, fold by fold (first seed); no test patient was asked."
        yield table_of(caption, ("Row", "Data", "Setting", "Question", "Chosen"), body)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def origin(result: StudyResult) -> Iterator[Block]:
    """Versions, and the study as it was resolved."""
    yield versions_of(result.provenance.get("versions", {}))
    asked = {key: value for key, value in result.study.items() if key not in ("data", "reference", "notes", "title")}
    yield Fold("The study as resolved", (Code(pretty(without_places(asked))),), look="long")
