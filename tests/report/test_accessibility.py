"""The rendered pages in a real browser: no serious fault of accessibility, no sideways scrolling, keys are enough."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from ttsopt_lib.report.comparison.compare import compare
from ttsopt_lib.report.comparison.views import page as comparison_page

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
PHONE, LAPTOP = 390, 1280  # CSS pixels


def look_at(browser, path: Path, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(path.as_uri())


def faults(browser) -> list[str]:
    """What axe finds that keeps people out: its serious and critical violations."""
    browser.execute_script(AXE)
    found = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations']})"
        ".then(found => done(found.violations), error => done([{id: String(error)}]));"
    )
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:150] if one.get('nodes') else ''}"
        for one in found
        if one.get("impact") not in ("minor", "moderate")
    ]


def sideways(browser) -> int:
    """How many pixels the page is wider than the screen (a phone's `innerWidth` grows with what does not fit)."""
    return browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["good", "many"])
def test_the_report_has_no_serious_fault_and_does_not_scroll_sideways(browser, rendered, name):
    for width in (LAPTOP, PHONE):
        look_at(browser, rendered(name).html, width)
        assert sideways(browser) <= 0
        assert faults(browser) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["good", "bad", "many"])
def test_a_phone_shows_whole_figures_in_letters_that_can_be_read(browser, rendered, name):
    measure = (
        "return [...document.querySelectorAll('figure .scroll')].map(frame => {"
        "const shown = [...frame.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width > 0);"
        "const scale = shown[0].getBoundingClientRect().width / shown[0].viewBox.baseVal.width;"
        "const sizes = [...shown[0].querySelectorAll('text')].map(text => parseFloat(getComputedStyle(text).fontSize));"
        "return [shown.length, shown[0].getAttribute('aria-label').length, frame.scrollWidth - frame.clientWidth,"
        " scale * Math.min(...sizes)]; });"
    )
    for width in (LAPTOP, PHONE):
        look_at(browser, rendered(name).html, width)
        figures = browser.execute_script(measure)
        assert len(figures) == 5
        for pictures, described, hidden, letters in figures:
            assert pictures == 1 and described > 40 and hidden <= 0
            assert letters >= 9


@pytest.mark.slow
def test_axe_would_find_a_serious_fault(browser, rendered, tmp_path):
    broken = rendered("good").html.read_text(encoding="utf-8").replace('lang="en"', "", 1)
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    look_at(browser, tmp_path / "broken.html", LAPTOP)
    assert any(fault.startswith("html-has-lang") for fault in faults(browser))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bad", "unmeasured"])
def test_reports_of_bad_and_missing_results_fit_a_phone(browser, rendered, name):
    look_at(browser, rendered(name).html, PHONE)
    assert sideways(browser) <= 0


def test_a_comparison_has_no_serious_fault_and_fits_a_phone(browser, summary, tmp_path):
    (tmp_path / "c.html").write_text(comparison_page(compare(summary("good"), summary("bad"))), encoding="utf-8")
    look_at(browser, tmp_path / "c.html", PHONE)
    assert sideways(browser) <= 0 and faults(browser) == []


@pytest.mark.slow
def test_the_keyboard_reaches_the_report_and_every_wide_table(browser, rendered):
    look_at(browser, rendered("good").html, LAPTOP)

    def press(key: str) -> str:
        ActionChains(browser).send_keys(key).perform()
        return browser.execute_script("return document.activeElement.className || document.activeElement.tagName")

    assert press(Keys.TAB) == "skip"
    assert browser.execute_script("return document.activeElement.getBoundingClientRect().left") >= 0
    press(Keys.ENTER)
    assert browser.execute_script("return location.hash") == "#report"
    assert "scroll" in [press(Keys.TAB) for _ in range(3)]
    hidden = "return [...document.querySelectorAll('.scroll')].filter(box => box.tabIndex < 0).length"
    assert browser.execute_script(hidden) == 0
