"""The report, section by section: what notebooks/report.ipynb shows.

Each method returns one piece of HTML made from the summary, so that a notebook cell is one call, and the page that
is rendered from the notebook is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttsopt_lib.evaluate.examples import spoke_before
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report.chapters import (
    choice,
    conclusion,
    doubts,
    first_page,
    listeners,
    provenance,
    quality,
    sizes,
    students,
    tradeoff,
)
from ttsopt_lib.report.chapters.spectrograms import study_spectrograms
from ttsopt_lib.report.chapters.speed import batches, browser, energy, first_runs, first_sound, peers, profiles, timings
from ttsopt_lib.report.error_rates import rates_of
from ttsopt_lib.report.facts.findings import chosen_or_closest, over_all
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.facts.verdict import HELD_OUT
from ttsopt_lib.report.numbers import counted
from ttsopt_lib.report.printing.audio import Players
from ttsopt_lib.report.printing.html import bullets, escape, figure, note, paragraphs, reasoned
from ttsopt_lib.report.printing.plot_style import Chart, svg_text, with_narrow
from ttsopt_lib.report.printing.table import Table
from ttsopt_lib.report.schema import FILES_MIME, SUMMARY_MIME, Summary
from ttsopt_lib.study import ORIGINAL, Device, Study

RATINGS_PRINTED = 4  # variants of which the PDF says what their ratings could show


def all_tables(summary: Summary) -> list[Table]:
    """Every table of the report that has a CSV file. A table without rows still has its columns."""
    measured, rates = summary.timed_devices, rates_of(summary)
    return [
        first_page.verdict(summary),
        sizes.sizes(summary.variants),
        sizes.coverage(summary.variants),
        sizes.sensitivity(summary),
        timings.improvement(summary),
        timings.timings(measured),
        timings.runtime_change(summary),
        timings.length_classes(measured),
        first_runs.first_runs(measured),
        first_sound.first_sound(measured),
        first_sound.ids(measured),
        energy.energy(measured),
        batches.batches(measured),
        profiles.amdahl(measured),
        profiles.stages(measured),
        profiles.operators(measured),
        peers.peers(summary),
        peers.other_voices(summary),
        peers.raspberry_pi_4(),
        quality.quality(summary.quality, rates=rates),
        quality.quality(summary.anchors, "anchors", rates),
        listeners.mos(summary),
        listeners.comparisons(summary),
        provenance.machines(summary),
        provenance.files(summary),
        quality.paired(summary),
        quality.tests(summary),
        quality.confirmation(summary.confirmation, rates=rates),
    ]


class Html:
    """A piece of the page. In a notebook it shows itself."""

    def __init__(self, *parts: str, data: dict[str, Any] | None = None):
        self.text = "\n".join(part for part in parts if part)
        self.data = data or {}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/html": self.text, **self.data}


class Report:
    """The sections of one study's report."""

    def __init__(self, summary: Summary, folder: StudyFolder, study: Study | None = None):
        self.summary = summary
        self.folder = folder
        names = [variant.name for variant in summary.variants]
        outdated = [name for name in names if study and spoke_before(study, folder, name)]
        self.players = Players(folder, outdated=outdated)
        self.players.prepare(summary, names)
        drawn = (
            sizes.size_chart,
            sizes.sensitivity_chart,
            students.training_chart,
            timings.latency_chart,
            profiles.stage_chart,
            quality.quality_chart,
            tradeoff.tradeoff_chart,
        )
        charts = [with_narrow(draw, summary) for draw in drawn]
        self.charts: dict[str, Chart] = {chart.name: chart for chart in charts if chart}
        spectra, self.no_spectra = study_spectrograms(summary, study, folder) if study else (None, "no study was given")
        if spectra:
            self.charts[spectra.name] = spectra

    @classmethod
    def open(cls, study: Study, devices: Sequence[Device], reports: str | None = None) -> Report:
        """The report on the records of a study; `reports` is the folder of all reports, by default reports/."""
        folder = StudyFolder(study, resolve(Path(reports)) if reports else None)
        return cls(summarize(study, devices, folder), folder, study)

    # --- first page

    def first_page(self) -> Html:
        """The verdict, the trade-off, before and after to hear. Carries the summary itself as data."""
        summary = self.summary
        compared = [ORIGINAL, *chosen_or_closest(summary)]
        stage = first_page.stage_note(summary)
        judged = "Where a figure has an interval, its worse end has to meet the target, not its middle."
        if "tradeoff" in self.charts:
            judged += (
                f" The predicted MOS change in this table is {HELD_OUT}; in the figure below it is {over_all(summary)}."
            )
        return Html(
            paragraphs([stage], "first-look") if stage else "",
            '<div class="lead">' + paragraphs(first_page.manager_summary(summary)) + "</div>",
            first_page.verdict(summary).html,
            paragraphs([judged], "small"),
            figure(self.charts.get("tradeoff"), "No picture of the trade-off: nothing was both timed and scored."),
            note("In the corner of both targets, and not chosen", choice.corner_notes(summary)),
            self.players.table(summary, compared, "Before and after, to hear (levels untouched)", "before-after"),
            browser.link(summary),
            data={SUMMARY_MIME: summary.model_dump(mode="json", by_alias=True)},
        )

    # --- the sections

    def quantization(self) -> Html:
        """Sizes, what every step reached, and why."""
        return Html(
            sizes.sizes(self.summary.variants).html,
            figure(self.charts["size"], ""),
            sizes.coverage(self.summary.variants).html,
            bullets(sizes.quantization_notes(self.summary)),
            *sizes.sensitivity_section(self.summary, self.charts.get("sensitivity")),
        )

    def pruning(self) -> Html:
        """What zeros did, and did not."""
        return Html(paragraphs(sizes.pruning_notes(self.summary) or ["No variant of this study is pruned."]))

    def distillation(self) -> Html:
        """Students in place of the decoder."""
        training = self.charts.get("training")
        return Html(paragraphs(students.distillation_notes(self.summary)), figure(training, "") if training else "")

    def devices(self) -> Html:
        """Before and after on each device, then every timing."""
        summary = self.summary
        return Html(
            timings.improvement(summary).html,
            note(
                "Warnings of the measurement",
                doubts.warnings(summary),
                "warning",
                anchor=doubts.ANCHOR if doubts.concerns(summary) else "",
            ),
            note("How the variant was chosen", choice.choice_notes(summary) + choice.fastest_notes(summary)),
            bullets(timings.import_notes(summary) + timings.timing_notes(summary) + timings.first_audio_notes(summary)),
            figure(self.charts.get("latency"), "No picture of the latencies: no device was measured."),
            *timings.section(summary),
            *browser.section(summary),
            *peers.published_section(summary),
            timings.reductions_by_length(summary),
            *first_runs.section(summary),
            *first_sound.section(summary),
            *energy.section(summary.timed_devices),
            *batches.section(summary.timed_devices),
            *profiles.section(summary, self.charts.get("stages")),
            timings.runtime_change(summary).html,
        )

    def peers(self) -> Html:
        """What a user would pick instead: the same voice by other means, and another voice."""
        return Html(*peers.section(self.summary))

    def mos(self) -> Html:
        """Mean opinion score: listeners' ratings, or that there are none."""
        rated = any(row.human_mos for row in self.summary.quality)
        ratings = listeners.what_ratings_could_show(self.summary)
        reason = self.summary.ratings_reason or "no ratings were given"
        beside = " The predicted change stands beside it." if self.summary.predictors else ""
        return Html(
            "" if rated else paragraphs([f"MOS was not measured: {reason}.{beside}"]),
            listeners.mos(self.summary).html,
            bullets(listeners.optimized_first(self.summary, ratings), printed=RATINGS_PRINTED),
            *listeners.tables_of_comparisons(self.summary),
            bullets(listeners.what_comparisons_could_show(self.summary)),
            paragraphs([f"Left out: {'; '.join(left_out)}."] if (left_out := self.summary.ratings_left_out) else []),
            paragraphs(
                [f"Which voice files were heard is not known for {counted(unknown, 'rating')}."]
                if (unknown := self.summary.ratings_unknown_files)
                else []
            ),
        )

    def quality(self) -> Html:
        """Predicted MOS, word errors, and what differs beside the original; anchors last."""
        summary = self.summary
        if not summary.predictors:
            return Html(paragraphs([f"Nothing was scored: {summary.quality_reason}."], "missing"))
        return Html(figure(self.charts.get("quality"), ""), *quality.section(summary))

    def listening(self) -> Html:
        """Every voice to hear."""
        names = [variant.name for variant in self.summary.variants]
        return Html(self.players.table(self.summary, names, "Every voice, the same sentences", "listening"))

    def spectra(self) -> Html:
        """Spectrograms of the original, the optimized variant and the worst one, and their differences."""
        return Html(figure(self.charts.get("spectrograms"), f"No spectrograms: {self.no_spectra}."))

    def tradeoff(self) -> Html:
        return Html(bullets(tradeoff.tradeoff(self.summary)))

    def conclusion(self) -> Html:
        return Html(paragraphs(conclusion.conclusion(self.summary)))

    def advice(self) -> Html:
        """What to do next, and the measurements that say so."""
        found = [(one.text, one.because) for one in self.summary.advice]
        return Html(reasoned(found) or paragraphs(["No measurement of this study calls for anything more."]))

    # --- what it takes to believe it

    def rule(self) -> Html:
        """The rule of the choice, with this study's targets."""
        return Html(paragraphs([choice.rule(self.summary)]))

    def provenance(self) -> Html:
        """Who measured what, when, with which code and files."""
        summary = self.summary
        commit = summary.commit or "not under version control"
        state = " with uncommitted changes" if summary.dirty else ""
        facts = [
            ("Voice", summary.voice),
            ("SHA-256 of the voice's file", summary.source_sha256),
            ("Study", summary.study),
            ("Report made", summary.created),
            ("Commit", commit + state),
            ("Quality scored", summary.quality_created or f"not measured: {summary.quality_reason}"),
            *((p.label, f"version {p.version}, weights {p.weights_sha256}") for p in summary.predictors),
            ("Recognizer", summary.asr or f"not measured: {summary.asr_reason}"),
        ]
        items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts)
        return Html(
            f'<dl class="facts">{items}</dl>',
            provenance.machines(summary).html,
            provenance.models(summary),
        )

    def licences(self) -> Html:
        chain = self.summary.licence_chain
        return Html(bullets(chain) or paragraphs(["The study does not say under which terms the voice may be used."]))

    def limitations(self) -> Html:
        """What this study cannot say."""
        return Html(bullets(conclusion.limitations(self.summary)))

    def files(self) -> Html:
        """Links to the tables and figures beside the report. Carries them as data: they are written with the page."""
        made = all_tables(self.summary)
        tables = {f"{table.name}.csv": table.frame.to_csv(index=False, lineterminator="\n") for table in made}
        figures = {f"{name}.svg": svg_text(chart) for name, chart in self.charts.items()}
        csv = ", ".join(f'<a href="tables/{table.name}.csv">{table.name}.csv</a>' for table in made)
        svg = ", ".join(f'<a href="figures/{name}.svg">{name}.svg</a>' for name in self.charts)
        return Html(
            f"<p>Tables: {csv}. Figures: {svg}. Everything for scripts: <a href='summary.json'>summary.json</a>.</p>",
            data={FILES_MIME: {self.folder.tables.name: tables, self.folder.figures.name: figures}},
        )
