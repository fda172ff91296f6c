"""What the report says in words about each invented study, held against the stored pages."""

from __future__ import annotations

from pathlib import Path

import golden_pages
import pytest
from invented_records import CASES

from ttsopt_lib.report import sections
from ttsopt_lib.report.facts import findings
from ttsopt_lib.report.schema import Summary
from ttsopt_lib.report.sections import Report

SECTIONS = (  # of the report, but for those that name machines, dates and files
    "first_page", "quantization", "pruning", "distillation", "devices", "peers", "mos", "quality", "listening",
    "spectra", "tradeoff", "conclusion", "advice", "rule", "licences", "limitations",
)  # fmt: skip


def words(summary: Summary, report: Report) -> dict[str, list[str]]:
    """Everything that the report says, under the name of what says it."""
    said = {name: golden_pages.prose_of(getattr(report, name)().text) for name in SECTIONS}
    said["titles of figures"] = [f"{name}: {golden_pages.title(chart)}" for name, chart in report.charts.items()]
    said["titles of trade-offs"] = [findings.tradeoff_title(summary, device) for device in summary.measured_devices]
    said["reasons of the verdict"] = [
        f"{row.claim}, {row.device}: {row.status}: {row.reason}" for row in summary.verdict
    ]
    return {heading: texts for heading, texts in said.items() if texts}


@pytest.fixture
def _one_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without their forms for phones, which say the same and take as long to lay out."""
    monkeypatch.setattr(sections, "with_narrow", lambda draw, summary: draw(summary))


@pytest.mark.slow
@pytest.mark.usefixtures("_one_width")
@pytest.mark.parametrize("name", CASES)
def test_what_the_report_says(name, summary, case, request):
    one = summary(name)
    said = words(one, Report(one, case(name)[2]))
    rewrite = bool(request.config.getoption(golden_pages.OPTION, default=False))
    golden_pages.check(name, said, rewrite, whole=True)


def test_every_stored_wording_belongs_to_a_study_or_a_test():
    for path in golden_pages.FOLDER.glob("*.txt"):
        if path.stem in CASES:
            continue
        (module,) = Path(__file__).parent.rglob(f"test_{path.stem}.py")
        source = module.read_text(encoding="utf-8")
        for heading in golden_pages.read(path.stem):
            function = "test_" + heading.partition("[")[0].replace(" ", "_")
            assert f"def {function}(" in source, f"{path.name}: no test is called {function}; delete its wording"
