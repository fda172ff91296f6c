"""The page in a real browser: a test is taken by clicking, and by keyboard alone."""

from __future__ import annotations

import csv
import io
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from tone_test import ASKED, VARIANTS, Made, make

from ttsopt_lib.evaluate.ratings.file import COLUMNS

pytestmark = pytest.mark.slow


@pytest.fixture
def made(tmp_path) -> Made:
    return make(tmp_path / "listening")


def wait(browser, condition):
    return WebDriverWait(browser, 15, poll_frequency=0.02).until(lambda _: condition())


def title(browser) -> str:
    return browser.find_element(By.TAG_NAME, "h1").text


def where(browser) -> str:
    return browser.find_element(By.ID, "where").text


def button(browser, label: str):
    found = [b for b in browser.find_elements(By.TAG_NAME, "button") if b.text == label]
    assert found, f"no button {label!r} on the screen {title(browser)!r}"
    return found[0]


def play_all(browser) -> None:
    for one in browser.find_elements(By.CSS_SELECTOR, ".play"):
        one.click()
        wait(browser, lambda one=one: "heard" in (one.get_attribute("class") or ""))


def begin(browser, url: str, rater: int) -> None:
    """From the welcome to the first instructions, with one wrong answer in the headphone check."""
    browser.get(url)
    browser.find_element(By.ID, "rater").send_keys("999")
    button(browser, "Begin").click()
    assert "from 1 to" in browser.find_element(By.CLASS_NAME, "message").text
    browser.find_element(By.ID, "rater").clear()
    browser.find_element(By.ID, "rater").send_keys(str(rater))
    button(browser, "Begin").click()
    button(browser, "Next").click()
    assert "to its end" in browser.find_element(By.CLASS_NAME, "message").text
    play_all(browser)
    browser.find_element(By.ID, "comfortable").click()
    right = [rater % 2, 1 - rater % 2]
    for check, side in enumerate(right):
        browser.find_element(By.CSS_SELECTOR, f"input[name=ear{check}][value='{1 - side}']").click()
    button(browser, "Next").click()
    assert "not right" in browser.find_element(By.CLASS_NAME, "message").text
    for check, side in enumerate(right):
        browser.find_element(By.CSS_SELECTOR, f"input[name=ear{check}][value='{side}']").click()
    button(browser, "Next").click()


def answer(browser, score: int) -> None:
    play_all(browser)
    browser.find_element(By.CSS_SELECTOR, f"input[name=score][value='{score}']").click()
    button(browser, "Next").click()


def test_a_whole_acr_test_by_clicking_with_a_reload_in_the_middle(made, browser, tmp_path):
    begin(browser, made.url, rater=2)
    assert title(browser) == "Rate the quality"
    button(browser, "Next").click()
    for number in (1, 2, 3):
        assert where(browser) == f"Example {number} of 3"
        answer(browser, 3)
    count = ASKED.sentences * 3 + ASKED.traps
    given = []
    for number in range(count):
        assert where(browser) == f"Recording {number + 1} of {count}"
        if number == 4:  # closed and opened again: the same recording, nothing lost
            browser.refresh()
            assert where(browser) == f"Recording {number + 1} of {count}"
        if number == 0:
            button(browser, "Next").click()
            assert "to its end" in browser.find_element(By.CLASS_NAME, "message").text
            play_all(browser)
            button(browser, "Next").click()
            assert browser.find_element(By.CLASS_NAME, "message").text == "Choose an answer."
        given.append(1 + number % 5)
        answer(browser, given[-1])
    assert title(browser) == "Thank you"
    button(browser, "Download my ratings").click()
    (path,) = wait(browser, lambda: [p for p in (tmp_path / "downloads").glob("*.csv") if p.stat().st_size])
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert list(rows[0]) == list(COLUMNS)
    assert [int(row["score"]) for row in rows] == given
    clips = [made.key.clips[row["variant"]] for row in rows]
    rated = [(clip.sentence, clip.variant) for clip in clips if clip.use == "rated"]
    assert sorted(rated) == sorted((str(s), v) for s in range(3) for v in ("original", *VARIANTS))
    assert [clip.trap for clip in clips if clip.use == "trap"] == [2]
    assert all(
        made.key.sentences.get(row["sentence"]) == clip.sentence
        for row, clip in zip(rows, clips, strict=True)
        if not clip.trap
    )
    assert all(0 <= float(row["seconds"]) < 30 and row["rater"].startswith("2-") and not row["trap"] for row in rows)
    browser.refresh()
    assert title(browser) == "Thank you"


def test_an_invitation_of_another_listener_is_not_answered_in_the_name_of_the_first(made, browser):
    browser.get(made.url)
    begun = "state = {rater: 2, name: '2-test', at: 1, rows: [['acr', 's', 'v', '', '2-test', '3', '1.0', '']]}; save()"
    browser.execute_script(begun)
    browser.get(made.url + "?rater=3")
    assert title(browser) == "Who are you?" and not browser.find_element(By.ID, "progress").is_displayed()
    button(browser, "Go on as listener 2").click()
    assert title(browser) == "Rate the quality"
    assert browser.find_element(By.ID, "whose").text == "Listening test, listener 2"
    browser.refresh()
    button(browser, "Start as listener 3").click()
    browser.switch_to.alert.dismiss()
    assert title(browser) == "Who are you?"
    button(browser, "Start as listener 3").click()
    browser.switch_to.alert.accept()
    assert title(browser) == "Volume and headphones"
    rater, name, rows = browser.execute_script("return [load().rater, load().name, load().rows]")
    assert rater == 3 and name.startswith("3-") and rows == []
    browser.get(made.url + "?rater=99")  # no listener of this test
    assert title(browser) == "Volume and headphones"


def test_two_tabs_go_on_with_the_same_answers(made, browser):
    browser.get(made.url)
    older = browser.current_window_handle
    browser.execute_script("begin(2); state.at = 1; save(); show()")
    browser.switch_to.new_window("tab")
    browser.get(made.url)
    assert title(browser) == "Rate the quality"
    button(browser, "Next").click()
    answer(browser, 3)
    assert where(browser) == "Example 2 of 3"
    browser.switch_to.window(older)
    wait(browser, lambda: where(browser) == "Example 2 of 3")
    answer(browser, 3)
    assert where(browser) == "Example 3 of 3"


def test_a_recording_that_cannot_be_loaded_is_said_each_time_and_tried_again(made, browser):
    browser.get(made.url)
    volume = made.folder / "audio" / f"{browser.execute_script('return TEST.volume')}.wav"
    hidden = volume.rename(made.folder / "hidden.wav")
    browser.execute_script("begin(2)")
    message = browser.find_element(By.CLASS_NAME, "message")
    for _ in range(2):
        wait(browser, lambda: "could not be loaded" in message.text)
        browser.execute_script("arguments[0].textContent = ''", message)
        button(browser, "Play").click()
    wait(browser, lambda: "could not be loaded" in message.text)
    hidden.rename(volume)
    button(browser, "Play").click()
    wait(browser, lambda: "heard" in button(browser, "Play").get_attribute("class"))
    assert message.text == ""


@pytest.mark.parametrize("missing", ["test.js", "page.js"])
def test_a_page_without_one_of_its_files_says_what_to_do(made, browser, missing):
    (made.folder / missing).unlink()
    browser.get(made.url)
    assert "If nothing comes, load the page again" in browser.find_element(By.ID, "main").text


def test_keyboard_only(tmp_path, browser):
    made = make(tmp_path / "listening", sentences=2, traps=0)
    browser.get(made.url + "?rater=1")

    def press(*keys: str) -> None:
        for key in keys:
            browser.switch_to.active_element.send_keys(key)

    def tab_to(what: str) -> None:
        for _ in range(30):
            press(Keys.TAB)
            focused = browser.switch_to.active_element
            outline = focused.value_of_css_property("outline-style")
            label = focused.text or focused.get_attribute("name") or focused.get_attribute("id")
            inside = browser.execute_script(
                "const a = document.activeElement.closest('.answer'); return a && getComputedStyle(a).outlineStyle"
            )
            assert "solid" in (outline, inside), f"focus on {label!r} cannot be seen"
            if label == what:
                return
        raise AssertionError(f"{what!r} cannot be reached with the tab key")

    def hear(label: str) -> None:
        tab_to(label)
        one = browser.switch_to.active_element
        press(Keys.ENTER)
        wait(browser, lambda: "heard" in (one.get_attribute("class") or ""))

    tab_to("Begin")
    press(Keys.ENTER)
    hear("Play")
    tab_to("comfortable")
    press(Keys.SPACE)
    hear("Play 1")
    tab_to("ear0")
    press(Keys.SPACE, Keys.ARROW_DOWN)  # rater 1 hears the right ear first
    hear("Play 2")
    tab_to("ear1")
    press(Keys.SPACE)
    tab_to("Next")
    press(Keys.ENTER)
    tab_to("Next")
    press(Keys.ENTER)
    for _ in range(3 + 2 * 3):
        hear("Play")
        tab_to("score")
        press(Keys.SPACE, Keys.ARROW_DOWN)  # Excellent, then Good
        tab_to("Next")
        press(Keys.ENTER)
    assert title(browser) == "Thank you"
    assert [row[5] for row in browser.execute_script("return state.rows")] == ["4"] * 6


def test_ccr_and_mushra_are_taken_and_posted(tmp_path, browser):
    received: list[str] = []

    class Store(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/ratings"
        made = make(tmp_path / "listening", tests=("ccr", "mushra"), sentences=2, post_url=url)
        begin(browser, made.url, rater=3)
        button(browser, "Next").click()
        for _ in range(2 + 2 * 2 + 1):
            answer(browser, -1)
        assert title(browser) == "Compare with a reference"
        button(browser, "Next").click()
        for _ in range(1 + 2):
            play_all(browser)
            button(browser, "Next").click()
            assert "slider" in browser.find_element(By.CLASS_NAME, "message").text
            for slider in browser.find_elements(By.CSS_SELECTOR, "input[type=range]"):
                slider.send_keys(Keys.ARROW_RIGHT)
            button(browser, "Next").click()
        wait(browser, lambda: "were sent" in browser.find_element(By.CLASS_NAME, "message").text)
    finally:
        server.shutdown()
        server.server_close()
    rows = list(csv.DictReader(io.StringIO(received[0])))
    clips = made.key.clips
    assert [row["test"] for row in rows] == ["ccr"] * 5 + ["mushra"] * 8
    for row in rows:
        both = clips[row["variant"]], clips[row["reference"]]
        assert both[0].test == both[1].test == row["test"]
        if row["test"] == "mushra":
            assert both[1].use == "reference" and both[1].variant == "original" and row["score"] == "51"
        elif both[0].use == "rated":
            assert sorted(clip.variant == "original" for clip in both) == [False, True]
    heard = {clips[row["variant"]].variant for row in rows if row["test"] == "mushra"}
    assert heard == {"original", *VARIANTS, "lowpass-3.5khz"}


def test_only_the_listener_whose_ratings_were_sent_is_marked_as_sent(tmp_path, browser):
    made = make(tmp_path / "listening", post_url="http://127.0.0.1:9/ratings")
    browser.get(made.url)
    browser.execute_script("window.fetch = () => new Promise((done) => { window.answered = () => done({ok: true}); })")
    at_the_end = "state = {rater: 2, name: '2-test', at: 1e6, rows: [], sent: false}; save(); show(); "
    sent = "answered(); setTimeout(() => arguments[0]([state.name, state.sent, load().sent]));"
    assert browser.execute_async_script(at_the_end + sent) == ["2-test", True, True]
    another = "state = {...state, rater: 3, name: '3-test'}; save(); "
    assert browser.execute_async_script(at_the_end + another + sent) == ["3-test", False, False]


@pytest.mark.parametrize("width", [390, 1280])
def test_no_screen_scrolls_sideways(tmp_path, browser, width):
    made = make(tmp_path / "listening", tests=("acr", "ccr", "mushra"))
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(made.url)
    fits = "return document.documentElement.scrollWidth <= innerWidth"
    assert browser.execute_script(fits)
    browser.execute_script("state = {rater: 1, name: '1-test', at: 0, rows: [], sent: false}; show()")
    for screen in range(browser.execute_script("return screens().length")):
        browser.execute_script(f"state.at = {screen}; show()")
        assert browser.execute_script(fits), f"screen {screen} at {width} px"
        unlabelled = browser.execute_script(
            "return [...document.querySelectorAll('input')].filter((i) => !i.labels.length).length"
        )
        assert unlabelled == 0
    assert browser.get_log("browser") == []


def test_nothing_that_is_served_tells_variants_apart(tmp_path):
    made = make(tmp_path / "listening", tests=("acr", "ccr", "mushra"), traps=2)
    served = [path for path in made.folder.rglob("*") if path.is_file()]
    assert {path.name for path in served if path.suffix != ".wav"} == {"index.html", "style.css", "page.js", "test.js"}
    for path in served:
        content = path.name.encode() + b"\n" + path.read_bytes()
        for name in (*VARIANTS, "original", "lowpass", "Sentence 0", 'trap":2'):
            assert name.encode() not in content, f"{path.name} says {name!r}"
    assert {path.stem for path in served if path.suffix == ".wav"} == set(made.key.clips)


def test_the_page_loads_nothing_from_elsewhere(made: Made):
    page = (made.folder / "index.html").read_text()
    assert re.findall(r'(?:src|href)="([^"]+)"', page) == ["style.css", "data:,", "test.js", "page.js"]


def test_the_page_has_no_serious_fault_of_accessibility(browser, made: Made):
    axe = (Path(__file__).parents[1] / "report" / "axe" / "axe.min.js").read_text(encoding="utf-8")
    browser.get(made.url)
    browser.find_element(By.ID, "rater").send_keys("1")
    for screen in ("welcome", "headphones"):
        browser.execute_script(axe)
        found = browser.execute_async_script(
            "const done = arguments[arguments.length - 1]; axe.run().then(found => done(found.violations));"
        )
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], screen
        button(browser, "Begin" if screen == "welcome" else "Next").click()
