"""Measuring on the page in a real browser: what is measured in which order, when it ends, and what is no record."""

from __future__ import annotations

import json
import time

import pytest
from selenium.webdriver.common.by import By
from web_pages import ask, change, opened, press, served, study_with, wait, write_page

from ttsopt_lib.web.records import MOST_BLOCKS

pytestmark = pytest.mark.slow


def test_blocks_mirror_each_other(plain_voice, browser, tmp_path):
    page = write_page(study_with("small", "other"), plain_voice, tmp_path)
    with opened(browser, page):
        browser.execute_script(
            "const post = Worker.prototype.postMessage; window.visits = [];"
            "Worker.prototype.postMessage = function (asked) {"
            " if (asked.task === 'run') visits.push(`${asked.name} ${asked.inputs.input.shape[1]}`);"
            " return post.call(this, asked); };"
        )
        record = ask(browser, "await ttsopt.measure({seconds: 1, minBlocks: 4, maxBlocks: 4})")
        visits = browser.execute_script("return window.visits")[-24:]
    assert [len(row["seconds"]) for row in record["rows"]] == [4, 4, 4]
    blocks = [visits[at : at + 6] for at in range(0, 24, 6)]
    for forward, backward in (blocks[:2], blocks[2:]):
        assert backward == forward[::-1]
        assert len(set(forward)) == 6  # every voice, every sentence
        assert len({visit.split()[1] for visit in forward[:3]}) == 1  # all voices speak the first sentence


def test_a_measurement_ends_with_as_many_blocks_as_a_record_may_have(plain_voice, browser, tmp_path):
    page = write_page(study_with(), plain_voice, tmp_path)
    assert json.loads((page / "web.json").read_text(encoding="utf-8"))["most_blocks"] == MOST_BLOCKS
    change(page, most_blocks=4)
    with opened(browser, page):
        record = ask(browser, "await ttsopt.measure({seconds: 600})")
    assert len(record["rows"][0]["seconds"]) == 4 and record["stopped_by"] == "max_blocks"


def test_a_clock_that_tells_no_time_ends_the_measurement(plain_voice, browser, tmp_path):
    page = write_page(study_with("small"), plain_voice, tmp_path)
    worker = page / "voices-worker.js"
    with opened(browser, page):
        worker.write_text("performance.now = () => 0;" + worker.read_text(encoding="utf-8"), encoding="utf-8")
        press(browser, "Start")
        state = browser.find_element(By.ID, "measure-state")
        wait(browser, lambda: state.text.startswith("Not measured: this browser's clock is too coarse"))


def test_a_measurement_can_be_stopped_before_anything_is_loaded(plain_voice, browser, tmp_path):
    page = write_page(study_with(), plain_voice, tmp_path)
    with opened(browser, page) as (_, handler):
        browser.execute_script(
            "const asked = new Promise((resolve) => { window.answer = resolve; });"
            "Object.defineProperty(navigator, 'gpu', {value: {requestAdapter: () => asked}});"
        )
        press(browser, "Start")
        press(browser, "Stop")
        browser.execute_script("answer(null)")
        wait(browser, lambda: "was stopped" in browser.find_element(By.ID, "measure-state").text)
        assert not [path for path in handler.asked if "voices-worker" in path]


@pytest.mark.parametrize("is_there", [False, True])
def test_what_has_no_original_to_be_compared_with_is_no_record(plain_voice, browser, tmp_path, is_there):
    page = write_page(study_with("small"), plain_voice, tmp_path, without_original=not is_there)
    if is_there:
        (page / "voices/original.onnx").unlink()
    with served(browser, page):
        boxes = browser.find_elements(By.CSS_SELECTOR, "#measured-voices input")
        assert [box.is_enabled() for box in boxes] == [False, True][-len(boxes) :]
        browser.execute_script("document.getElementById('seconds').value = 1")
        press(browser, "Start")
        state = browser.find_element(By.ID, "measure-state")
        wait(browser, lambda: state.text.startswith("Done"))
        assert "There is no record to save" in state.text
        assert browser.find_element(By.ID, "results").is_displayed()
        assert not browser.find_element(By.ID, "record").is_displayed()


def test_a_hidden_tab_pauses(plain_voice, browser, tmp_path):
    page = write_page(study_with("small"), plain_voice, tmp_path)
    with opened(browser, page):
        hide = (
            "Object.defineProperty(document, 'hidden', {configurable: true, get: () => arguments[0]});"
            "document.dispatchEvent(new Event('visibilitychange'));"
        ).replace("arguments[0]", "window.isHidden")
        browser.execute_script(
            "window.result = null; window.isHidden = false;"
            "ttsopt.measure({seconds: 6, threads: [1, 4]}).then(record => { window.result = record; },"
            " error => { window.result = {error: error.message}; });"
        )
        wait(browser, lambda: "block" in browser.execute_script("return ttsopt.progress.doing"))
        browser.execute_script(f"window.isHidden = true; {hide}")
        wait(browser, lambda: "Paused" in browser.find_element(By.ID, "measure-state").text)
        time.sleep(0.5)
        assert browser.execute_script("return window.result") is None
        browser.execute_script(f"window.isHidden = false; {hide}")
        record = wait(browser, lambda: browser.execute_script("return window.result"))
        assert record.get("error") is None and record["pauses"] == 1
        assert record["threads"] == [1]  # from a plain server of files a page has one thread
        assert any("fewer threads" in text for text in record["warnings"])
        assert any("hidden" in text for text in record["warnings"])
        assert all(len(block) == 2 for row in record["rows"] for block in row["seconds"])


def test_a_measurement_can_be_stopped_and_more_threads_are_measured_where_there_are_some(
    plain_voice, browser, tmp_path
):
    page = write_page(study_with(), plain_voice, tmp_path)
    with served(browser, page):
        press(browser, "Start")
        wait(browser, lambda: browser.find_element(By.ID, "stop").is_displayed())
        press(browser, "Stop")
        wait(browser, lambda: "was stopped" in browser.find_element(By.ID, "measure-state").text)
        assert not browser.find_element(By.ID, "record").is_displayed()
        cores = browser.execute_script("return navigator.hardwareConcurrency")
        record = ask(browser, "await ttsopt.measure({seconds: 1, threads: [1, 2], maxBlocks: 2})")
        assert record["threads"] == ([1, 2] if cores > 1 else [1]) and record["stopped_by"] == "max_blocks"
        assert [row["threads"] for row in record["rows"]] == record["threads"]
