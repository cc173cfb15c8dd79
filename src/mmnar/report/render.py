"""ReportInputs → report.html and result.json, each written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from mmnar.errors import StoreError
from mmnar.evaluation.atlas import Atlas, ModalityRow, pattern_label, pooled_flows
from mmnar.evaluation.informative import Informativeness
from mmnar.evaluation.result import Comparison, Curve, Estimate, GroupRow, ModelTask, Result
from mmnar.evaluation.simulated import TO_BAYES
from mmnar.files import write_text, write_whole
from mmnar.privacy import in_tens
from mmnar.report import figures, summary, wording
from mmnar.report.inputs import ATLAS, ReportInputs, RunRecord
from mmnar.report.template import filled

HEADLINE: Final = ("auroc", "auprc", "brier", "log_loss", "ece")
WITHIN: Final = ("auroc_within_pattern", "auroc_between_pattern", "pattern_pair_share")
UNLISTED_MANIFEST: Final = ("files", "schema", "attrition", "warnings")
TASKS_A_FIGURE: Final = 3


@dataclass(frozen=True)
class Section:
    """A numbered section; ``block`` is the template macro that fills it."""

    number: int
    id: str
    title: str


def render_report(inputs: ReportInputs, out_dir: Path, name: str = "report") -> Path:
    """Write ``report.html`` and ``result.json`` to ``out_dir``.

    ``result.json`` is the Result as evaluated, with everything else the report shows under ``provenance.report``. An
    atlas has no Result: what it shows is ``<name>.json``.

    Args:
        name: Of the page, without its ending.

    Raises:
        StoreError: The folder cannot be written.
    """
    out_dir = Path(out_dir)
    signal = inputs.informative
    signal = None if signal is None else signal.disclosed()
    inputs = replace(inputs, result=inputs.result.disclosed(), informative=signal)
    shown = shown_data(inputs)
    result = replace(inputs.result, provenance={**inputs.result.provenance, "report": shown})
    html = render_html(inputs, shown)
    page = out_dir / f"{name}.html"
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        if inputs.kind == ATLAS:
            write_text(out_dir / f"{name}.json", json.dumps(shown, indent=1, ensure_ascii=False))
        else:
            write_whole(out_dir / "result.json", result.save)
        write_text(page, html)
    except OSError as error:
        raise StoreError(
            f"report in '{out_dir}'", "room and permission to write", str(error), "choose another --out"
        ) from error
    return page


def shown_data(inputs: ReportInputs) -> dict[str, Any]:
    """What the report shows beside the Result, as plain JSON with small cells removed."""
    flows = {flow: _with_left_out(steps) for flow, steps in pooled_flows(inputs.manifest).items()}
    return {
        "title": inputs.title,
        "manifest": {k: v for k, v in inputs.manifest.items() if k not in ("files", "attrition")},
        "attrition": flows,
        "atlas": None if inputs.atlas is None else asdict(inputs.atlas),
        "informative": None if inputs.informative is None else _shown_signal(inputs.informative),
        "runs": [_shown_run(run, inputs.result) for run in inputs.runs],
        "versions": dict(inputs.versions),
    }


def _shown_signal(signal: Informativeness) -> dict[str, Any]:
    shown = asdict(signal)
    for task, answer in signal.tasks.items():
        if answer.conditional is not None:
            shown["tasks"][task]["conditional"]["bits"] = answer.conditional.bits
    return shown


def _with_left_out(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    before = [steps[0], *steps[:-1]] if steps else []
    return [
        {**step, "left_out": last["kept"] - step["kept"], "share": step["kept"] / max(steps[0]["kept"], 1)}
        for last, step in zip(before, steps, strict=True)
    ]


def _shown_run(run: RunRecord, result: Result) -> dict[str, Any]:
    rectifier = None
    if run.rectifier is not None:
        rectifier = {task: _shown_rectifier(fitted) for task, fitted in run.rectifier.items()}
    return {**asdict(run), "rectifier": rectifier}


def _shown_rectifier(fitted: dict[str, Any]) -> dict[str, Any]:
    """Offsets of patterns with enough patients; how many patterns were withheld is said, not which."""
    offsets = fitted.get("offsets", [])
    told = sorted((o for o in offsets if o["n"] is not None and o["events"] is not None), key=lambda o: -int(o["n"]))
    # counts of the training fold, less those of the test fold and from everyone's, would tell the tune fold's
    shown = [{**_in_tens(o), **{k: round(o[k], 3) for k in ("value", "low", "high")}} for o in told]
    return {**fitted, "offsets": shown, "withheld": len(offsets) - len(shown)}


def _in_tens(offset: dict[str, Any]) -> dict[str, Any]:
    return {**offset, "n": in_tens(offset["n"]), "events": in_tens(offset["events"])}


def render_html(inputs: ReportInputs, shown: dict[str, Any]) -> str:
    """The whole page as text."""
    page = Page(inputs, shown)
    return filled("report.html", page=page, result=inputs.result, shown=shown)


class Page:
    """Everything the template asks for, decided in Python so that the template only places it."""

    def __init__(self, inputs: ReportInputs, shown: dict[str, Any]) -> None:
        self.title, self.manifest, self.atlas = inputs.title, inputs.manifest, inputs.atlas
        self.result, self.runs, self.shown = inputs.result, shown["runs"], shown
        self.kind, self.informative = inputs.kind, inputs.informative
        self.json = "describe.json" if inputs.kind == ATLAS else "result.json"
        self.tasks = list(inputs.result.tasks)
        self.alarms = summary.alarms(inputs.result)
        self.warnings = [str(w) for w in inputs.manifest.get("warnings", [])]
        self.lines = _line_looks(inputs.result)
        self.controls = {c.control for c in inputs.result.comparisons}
        self.sections = self._numbered_sections()

    def _numbered_sections(self) -> list[Section]:
        metrics = {name for models in self.result.tasks.values() for m in models.values() for name in m.metrics}
        entries = [m for models in self.result.tasks.values() for m in models.values()]
        wanted = [
            ("summary", "Summary", bool(self.tasks)),
            ("cohort", "Cohort", True),
            ("availability", "Availability of modalities", self.atlas is not None),
            ("informative", "Is missingness informative?", self.informative is not None),
            ("performance", "Performance", bool(self.tasks)),
            ("comparisons", "Comparisons with controls", bool(self.result.comparisons)),
            ("curves", "Discrimination and calibration curves", any(m.roc or m.pr or m.calibration for m in entries)),
            ("patterns", "Observation patterns", bool(metrics & set(WITHIN)) or any(m.patterns for m in entries)),
            ("subgroups", "Subgroups", any(m.subgroups for m in entries)),
            ("rectifier", "Pattern calibration offsets", any(r["rectifier"] for r in self.runs)),
            ("bayes", "Distance to the exact Bayes risk", bool(metrics & set(TO_BAYES))),
            ("training", "Training", any(r["history"] for r in self.runs)),
            ("models", "Model cards", bool(self.runs)),
            ("provenance", "Data, configuration and versions", True),
        ]
        return [Section(i, *s[:2]) for i, s in enumerate((s for s in wanted if s[2]), start=1)]

    def section(self, id: str) -> Section | None:
        return next((s for s in self.sections if s.id == id), None)

    @property
    def source(self) -> str:
        parts = [str(self.manifest[key]) for key in ("source", "source_version") if self.manifest.get(key)]
        return " ".join(parts) or "unnamed source"

    @property
    def questions(self) -> dict[str, dict[str, Any]]:
        """task → its words from the schema, where the manifest has one."""
        return {t["name"]: t for t in self.manifest.get("schema", {}).get("tasks", [])}

    def rows(self, task: str) -> list[tuple[str, ModelTask]]:
        """Models of a task, best first, each followed by its rectified form."""
        models = self.result.tasks[task]
        return [(name, models[name]) for pair in summary.model_pairs(models) for name in pair if name is not None]

    def metrics(self, task: str, wanted: Sequence[str]) -> list[str]:
        known = {name for m in self.result.tasks[task].values() for name in m.metrics}
        return [name for name in wanted if name in known]

    def headline(self, task: str) -> list[str]:
        """Metrics of the results table: the usual ones, then any this report has no section for."""
        extra = {n for m in self.result.tasks[task].values() for n in m.metrics} - {*HEADLINE, *WITHIN, *TO_BAYES}
        return [*self.metrics(task, HEADLINE), *sorted(extra)]

    def limits(self, task: str, metric: str) -> tuple[float, float]:
        return figures.shared_limits(m.metrics[metric] for m in self.result.tasks[task].values() if metric in m.metrics)

    def comparisons(self, task: str) -> list[Comparison]:
        return [c for c in self.result.comparisons if c.task == task]

    def difference_limits(self, task: str, metric: str) -> tuple[float, float]:
        chosen = [c.difference for c in self.comparisons(task) if c.metric == metric]
        return figures.shared_limits(chosen, include=(0.0,))

    def group_limits(self, groups: Sequence[GroupRow], column: str) -> tuple[float, float]:
        return figures.shared_limits([getattr(g, column) for g in groups], include=(0.0,) if column != "auroc" else ())

    def pattern_figures(self) -> list[Markup]:
        atlas = self.atlas
        assert atlas is not None
        names, tasks = [m.name for m in atlas.modalities], list(atlas.outcomes)
        chunks = [tasks[i : i + TASKS_A_FIGURE] for i in range(0, len(tasks), TASKS_A_FIGURE)]
        return [figures.pattern_figure(atlas, names, chunk) for chunk in chunks]

    def features_of(self, atlas: Atlas, modality: str) -> list[Any]:
        chosen = [f for f in atlas.features if f.modality == modality]
        return sorted(chosen, key=lambda f: -(f.missing.value or 0.0))

    def grouped(self) -> list[ModalityRow]:
        """Modalities in which several features differ in their statistic only."""
        atlas = self.atlas
        assert atlas is not None
        return [m for m in atlas.modalities if len(self.groups_of(atlas, m.name)) < m.features]

    def groups_of(self, atlas: Atlas, modality: str) -> list[Any]:
        chosen = [g for g in atlas.feature_groups if g.modality == modality]
        return sorted(chosen, key=lambda g: -(g.missing.value or 0.0))

    def drawn(self, task: str, curve: str) -> list[figures.Line]:
        """Lines of a ROC or PR chart: the named models in colour, the others grey beneath them."""
        lines = []
        for name, entry in self.rows(task):
            points: Curve | None = getattr(entry, curve)
            if points is not None and not summary.is_rectified(name):
                colour, dash = self.lines.get(name, (figures.MUTED, ""))
                lines.append(figures.Line(name, points, colour, dash))
        return lines

    def roc(self, task: str) -> Markup:
        return figures.roc_figure(task, self.drawn(task, "roc")[::-1])

    def pr(self, task: str) -> Markup:
        c = self.result.counts.get(task)
        rate = c.events / c.n if c is not None and c.n and c.events is not None else None
        return figures.pr_figure(task, self.drawn(task, "pr")[::-1], rate)

    def calibrations(self, task: str) -> list[tuple[str, Markup]]:
        """(model, chart); the rectified form is drawn into its model's chart."""
        models, charts = self.result.tasks[task], []
        drawn = [m.calibration for m in models.values() if m.calibration is not None]
        top = max((v for c in drawn for v in (*c.x, *c.y, *c.high)), default=1.0)
        for base, rectified in summary.model_pairs(models):
            lines = []
            for name, colour, dash in ((base, figures.BLUE, ""), (rectified, figures.ORANGE, "6 3")):
                curve = models[name].calibration if name is not None else None
                if name is not None and curve is not None:
                    lines.append(figures.Line(name, curve, colour, dash, band=name == base, dots=True))
            if lines:
                charts.append((base, figures.calibration_figure(task, base, lines, top)))
        return charts

    def oracle(self, task: str, model: str) -> Any:
        models = self.result.tasks.get(task, {})
        entries = [models[n] for n in (model + wording.RECTIFIED, model) if n in models]
        return next((e.oracle for e in entries if e.oracle is not None), None)

    def group_label(self, group: str) -> str:
        """A subgroup's name, or a pattern's in the shortest words."""
        known, parts = [m.name for m in self.atlas.modalities] if self.atlas else [], group.split(" + ")
        return pattern_label(parts, known) if set(parts) <= set(known) else group or "unknown"

    def offset_label(self, pattern: Sequence[str]) -> str:
        modalities = [m.name for m in self.atlas.modalities] if self.atlas else list(pattern)
        return pattern_label(list(pattern), modalities)

    def offset_estimate(self, offset: dict[str, Any]) -> Estimate:
        return Estimate(offset["value"], offset["low"], offset["high"])

    def offset_limits(self, offsets: Sequence[dict[str, Any]]) -> tuple[float, float]:
        return figures.shared_limits((self.offset_estimate(o) for o in offsets), include=(0.0,))

    def facts(self) -> dict[str, Any]:
        """Manifest entries that no other section shows."""
        return {k: v for k, v in self.manifest.items() if k not in UNLISTED_MANIFEST}

    def provenance(self) -> dict[str, Any]:
        return self.result.provenance


def _line_looks(result: Result) -> dict[str, tuple[str, str]]:
    """Colour and dash of the models with the best mean AUROC, the same in every chart."""
    totals: dict[str, list[float]] = {}
    for models in result.tasks.values():
        for name, entry in models.items():
            auroc = entry.metrics.get("auroc")
            if auroc is not None and auroc.value is not None and not summary.is_rectified(name):
                totals.setdefault(name, []).append(auroc.value)
    ranked = sorted(totals, key=lambda name: -sum(totals[name]) / len(totals[name]))
    return dict(zip(ranked, zip(figures.PALETTE, figures.DASHES, strict=True), strict=False))
