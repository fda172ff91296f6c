"""Summaries and rendered reports of invented studies, made once per run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import golden_pages
import invented_records as records
import pytest

from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report.facts.summary import summarize
from ttsopt_lib.report.render import render_report
from ttsopt_lib.report.schema import Summary


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that stores the golden pages anew."""
    parser.addoption(golden_pages.OPTION, action="store_true", help="store what the report says now (tests/report)")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Holds texts against those that are stored for this test, so that their wording stands in no test.

    Call it once, after what the test asserts: a text with a wrong figure is then not stored either.
    """
    page = request.node.path.stem.removeprefix("test_")
    heading = request.node.name.removeprefix("test_").replace("_", " ")
    rewrite = bool(request.config.getoption(golden_pages.OPTION, default=False))
    return lambda *texts: golden_pages.check(page, {heading: texts}, rewrite, whole=False)


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], records.Case]:
    """The records of an invented study by its name."""
    return cache(lambda name: records.CASES[name](tmp_path_factory.mktemp("reports")))


@pytest.fixture(scope="session")
def summary(case: Callable[[str], records.Case]) -> Callable[[str], Summary]:
    """The summary of an invented study by its name; a copy that a test may change."""
    made = cache(lambda name: summarize(*case(name)))
    return lambda name: made(name).model_copy(deep=True)


@pytest.fixture(scope="session")
def rendered(case: Callable[[str], records.Case], can_print: bool) -> Callable[[str], StudyFolder]:
    """The folder of an invented study after its report was rendered."""

    @cache
    def get(name: str) -> StudyFolder:
        study, devices, folder = case(name)
        result = render_report(study, devices, folder)
        if can_print:
            assert not result.messages, result.messages
        else:
            assert result.paths == [folder.html, folder.summary] and not folder.pdf.exists()
            assert len(result.messages) == 1 and "pango is not installed" in result.messages[0]
        return folder

    return get


@pytest.fixture
def printed(pango, rendered: Callable[[str], StudyFolder]) -> Callable[[str], Path]:
    """The PDF of an invented study by its name."""
    return lambda name: rendered(name).pdf


@pytest.fixture
def page(rendered: Callable[[str], StudyFolder]) -> Callable[[str], str]:
    """The text of a rendered page."""
    return lambda name: Path(rendered(name).html).read_text(encoding="utf-8")
