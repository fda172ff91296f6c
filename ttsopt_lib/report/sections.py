"""The report, section by section: what notebooks/report.ipynb shows.

Each method returns one piece of HTML made from the summary, so that a notebook cell is one call, and the page that
is rendered from the notebook is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttsopt_lib.paths import resolve
from ttsopt_lib.records import StudyFolder, atomic_folder
from ttsopt_lib.report import explanations, figures, quality_words, sentences, warning_marks
from ttsopt_lib.report.audio import Players
from ttsopt_lib.report.chapters import (
    energy,
    first_page,
    listeners,
    peers,
    profiles,
    provenance,
    published,
    sizes,
    timings,
)
from ttsopt_lib.report.chapters import quality as quality_chapter
from ttsopt_lib.report.html import FEW, bullets, escape, figure, not_printed, note, paragraphs, reasoned
from ttsopt_lib.report.plot_style import Chart, svg_text, with_narrow
from ttsopt_lib.report.printing.table import Table
from ttsopt_lib.report.progress_figures import stage_chart, training_chart
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.report.spectrograms import study_spectrograms
from ttsopt_lib.report.summary import summarize
from ttsopt_lib.report.tradeoff_figure import tradeoff_chart
from ttsopt_lib.report.verdict import HELD_OUT
from ttsopt_lib.study import ORIGINAL, Device, Study

SENTENCES_SHOWN = (
    f" The predicted MOS change in this table is {HELD_OUT}; in the figure below it is over all evaluation sentences."
)
RATINGS_PRINTED = 4  # variants of which the PDF says what their ratings could show
SUMMARY_MIME = "application/vnd.ttsopt.summary+json"


def all_tables(summary: Summary) -> list[Table]:
    """Every table of the report that has a CSV file. A table without rows still has its columns."""
    measured = summary.measured_devices
    return [
        first_page.verdict(summary),
        sizes.sizes(summary.variants),
        sizes.coverage(summary.variants),
        sizes.sensitivity(summary),
        timings.improvement(summary),
        timings.timings(measured),
        timings.runtime_change(summary),
        timings.length_classes(measured),
        energy.energy(measured),
        profiles.amdahl(measured),
        profiles.stages(measured),
        profiles.operators(measured),
        peers.peers(summary),
        peers.other_voices(summary),
        published.raspberry_pi_4(),
        quality_chapter.quality(summary.quality),
        quality_chapter.quality(summary.anchors, "anchors"),
        listeners.mos(summary),
        listeners.comparisons(summary),
        provenance.machines(summary),
        provenance.files(summary),
        quality_chapter.compared(summary),
        quality_chapter.tests(summary),
        quality_chapter.confirmation(summary.confirmation),
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
        self.players = Players(folder)
        self.players.prepare(summary, [variant.name for variant in summary.variants])
        drawn = (
            figures.size_chart,
            figures.sensitivity_chart,
            training_chart,
            figures.latency_chart,
            stage_chart,
            figures.quality_chart,
            tradeoff_chart,
        )
        charts = [with_narrow(draw, summary) for draw in drawn]
        self.charts: dict[str, Chart] = {chart.name: chart for chart in charts if chart}
        spectra, self.no_spectra = study_spectrograms(summary, study, folder) if study else (None, "no study was given")
        if spectra:
            self.charts[spectra.name] = spectra

    @classmethod
    def open(cls, study: Study, devices: Sequence[Device], reports: str | None = None) -> Report:
        """The report on the records of a study; ``reports`` is the folder of all reports, by default reports/."""
        folder = StudyFolder(study, resolve(Path(reports)) if reports else None)
        return cls(summarize(study, devices, folder), folder, study)

    # --- first page

    def first_page(self) -> Html:
        """The verdict, the trade-off, before and after to hear. Carries the summary itself as data."""
        summary = self.summary
        chosen = list(dict.fromkeys(name for name in summary.optimized.values() if name))
        closest = [choice.closest for choice in summary.choices if choice.closest]
        compared = [ORIGINAL, *(chosen or closest[:1])]
        stage = sentences.stage_note(summary)
        return Html(
            paragraphs([stage], "first-look") if stage else "",
            '<div class="lead">' + paragraphs(sentences.manager_summary(summary)) + "</div>",
            first_page.verdict(summary).html,
            paragraphs(
                [
                    "Where a figure has an interval, its worse end has to meet the target, not its middle."
                    + (SENTENCES_SHOWN if "tradeoff" in self.charts else "")
                ],
                "small",
            ),
            figure(self.charts.get("tradeoff"), "No picture of the trade-off: nothing was both timed and scored."),
            note("In the corner of both targets, and not chosen", explanations.corner_notes(summary)),
            self.players.table(summary, compared, "Before and after, to hear (levels untouched)", "before-after"),
            data={SUMMARY_MIME: summary.model_dump(mode="json", by_alias=True)},
        )

    # --- the sections

    def quantization(self) -> Html:
        """Sizes, what every step reached, and why."""
        return Html(
            sizes.sizes(self.summary.variants).html,
            figure(self.charts["size"], ""),
            sizes.coverage(self.summary.variants).html,
            bullets(explanations.quantization_notes(self.summary)),
            *self._sensitivity(),
        )

    def _sensitivity(self) -> list[str]:
        """What the search for mixed precision found, where a recipe has one."""
        if not self.summary.sensitivity:
            return []
        return [
            figure(self.charts.get("sensitivity"), ""),
            '<div class="screen-only">',  # the figure has every group, and the CSV file every figure
            sizes.sensitivity(self.summary).html,
            "</div>",
        ]

    def pruning(self) -> Html:
        """What zeros did, and did not."""
        return Html(paragraphs(explanations.pruning_notes(self.summary) or ["No variant of this study is pruned."]))

    def distillation(self) -> Html:
        """Students in place of the decoder."""
        training = self.charts.get("training")
        return Html(paragraphs(explanations.distillation_notes(self.summary)), figure(training, "") if training else "")

    def devices(self) -> Html:
        """Before and after on each device, then every timing."""
        summary = self.summary
        return Html(
            timings.improvement(summary).html,
            note(
                "Warnings of the measurement",
                explanations.warnings(summary),
                "warning",
                anchor=warning_marks.ANCHOR if warning_marks.concerns(summary) else "",
            ),
            note("How the variant was chosen", explanations.choice_notes(summary)),
            bullets(explanations.timing_notes(summary) + explanations.first_audio_notes(summary)),
            figure(self.charts.get("latency"), "No picture of the latencies: no device was measured."),
            *timings.section(summary),
            *self._published(),
            timings.reductions_by_length(summary, self._printed_devices),
            *energy.section(summary.measured_devices),
            *self._profiles(),
            timings.runtime_change(summary).html,
        )

    @property
    def _printed_devices(self) -> int:
        """How many devices a table has on paper that goes on for every device."""
        return FEW if len(self.summary.measured_devices) <= FEW else 1

    def _published(self) -> list[str]:
        """What others have published, where the report has a Raspberry Pi in it: for reference, never as a result."""
        if not any(device.kind == "raspberry_pi" for device in self.summary.devices):
            return []
        return [published.section()]

    def peers(self) -> Html:
        """What a user would pick instead: the same voice by other means, and another voice."""
        return Html(*peers.section(self.summary))

    def _profiles(self) -> list[str]:
        """Where the time goes, and the bound that this sets; nothing where no device has a profile."""
        measured = self.summary.measured_devices
        if not profiles.stages(measured).rows:
            return []
        shares = [profiles.shares_of_stages(measured)]
        where = "Each stage's share of the time, of every variant: `report.html` and `tables/stages.csv`."
        return [
            figure(self.charts.get("stages"), "No picture of the stages: no variant was both timed and profiled."),
            *(shares if len(measured) <= FEW else not_printed(shares, where)),
            *profiles.tables_of_profiles(self.summary, self._printed_devices),
        ]

    def mos(self) -> Html:
        """Mean opinion score: listeners' ratings, or that there are none."""
        rated = any(row.human_mos for row in self.summary.quality)
        reason = self.summary.ratings_reason or "no ratings were given"
        beside = " The predicted change stands beside it." if self.summary.predictors else ""
        return Html(
            "" if rated else paragraphs([f"MOS was not measured: {reason}.{beside}"]),
            listeners.mos(self.summary).html,
            bullets(self._rated_first(), printed=RATINGS_PRINTED),
            *listeners.tables_of_comparisons(self.summary),
            bullets(quality_words.what_comparisons_could_show(self.summary)),
        )

    def _rated_first(self) -> list[str]:
        """What the ratings could show, of the optimized variants first."""
        chosen = tuple(f"`{name}`" for name in self.summary.optimized.values() if name)
        return sorted(sentences.what_ratings_could_show(self.summary), key=lambda said: not said.startswith(chosen))

    def quality(self) -> Html:
        """Predicted MOS, word errors, and what differs beside the original; anchors last."""
        summary = self.summary
        if not summary.predictors:
            return Html(paragraphs([f"Nothing was scored: {summary.quality_reason}."], "missing"))
        return Html(figure(self.charts.get("quality"), ""), *quality_chapter.section(summary))

    def listening(self) -> Html:
        """Every voice to hear."""
        names = [variant.name for variant in self.summary.variants]
        return Html(self.players.table(self.summary, names, "Every voice, the same sentences", "listening"))

    def spectra(self) -> Html:
        """Spectrograms of the original, the optimized variant and the worst one, and their differences."""
        return Html(figure(self.charts.get("spectrograms"), f"No spectrograms: {self.no_spectra}."))

    def tradeoff(self) -> Html:
        return Html(bullets(sentences.tradeoff(self.summary)))

    def conclusion(self) -> Html:
        return Html(paragraphs(sentences.conclusion(self.summary)))

    def advice(self) -> Html:
        """What to do next, and the measurements that say so."""
        found = [(one.text, one.because) for one in self.summary.advice]
        return Html(reasoned(found) or paragraphs(["No measurement of this study calls for anything more."]))

    # --- what it takes to believe it

    def rule(self) -> Html:
        """The rule of the choice, with this study's targets."""
        return Html(paragraphs([explanations.rule(self.summary)]))

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
        return Html(bullets(explanations.limitations(self.summary)))

    def files(self) -> Html:
        """Write tables and figures beside the report, and link to them."""
        with atomic_folder(self.folder.tables) as folder:
            tables = all_tables(self.summary)
            for table in tables:
                table.frame.to_csv(folder / f"{table.name}.csv", index=False, lineterminator="\n")
        with atomic_folder(self.folder.figures) as folder:
            for name, chart in self.charts.items():
                (folder / f"{name}.svg").write_text(svg_text(chart), encoding="utf-8")
        csv = ", ".join(f'<a href="tables/{table.name}.csv">{table.name}.csv</a>' for table in tables)
        svg = ", ".join(f'<a href="figures/{name}.svg">{name}.svg</a>' for name in self.charts)
        return Html(
            f"<p>Tables: {csv}. Figures: {svg}. Everything for scripts: <a href='summary.json'>summary.json</a>.</p>"
        )
