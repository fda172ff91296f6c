"""The page in a real browser: typed, heard, measured, saved, sent; without a network, with bad names, when cut off."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from web_pages import (
    LAPTOP,
    PHONE,
    SENTENCE,
    ask,
    card,
    change,
    files_of,
    folder_of,
    open_page,
    opened,
    press,
    served,
    study_with,
    wait,
    write_page,
)

from tests.voices.declared_graphs import declare, tiny_tts
from ttsopt_lib.files import file_sha256
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.voices.adapters.opening import open_model
from ttsopt_lib.voices.piper import open_piper
from ttsopt_lib.voices.session import open_session
from ttsopt_lib.voices.source import source_model
from ttsopt_lib.voices.stream import write_streaming
from ttsopt_lib.voices.text import phoneme_ids
from ttsopt_lib.web.build import text_inputs, write_web

pytestmark = pytest.mark.slow

AXE = (Path(__file__).parents[1] / "report" / "axe" / "axe.min.js").read_text(encoding="utf-8")
HOSTILE = (
    "<img src=x onerror=\"document.title='taken'\"> \"quoted\" 'text' \u202e\u05e9\u05dc\u05d5\u05dd " + "long" * 15
)


def said(browser, name: str) -> str:
    return card(browser, name).find_element(By.CLASS_NAME, "said").text


def type_text(browser, text: str) -> None:
    field = browser.find_element(By.ID, "text")
    field.clear()
    field.send_keys(text)


def set_width(browser, width: int) -> None:
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def faults(browser) -> list[str]:
    browser.execute_script(AXE)
    found = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations']}).then(found => done(found.violations));"
    )
    return [f"{one['id']}: {one['nodes'][0]['html'][:150]}" for one in found]


def speak(browser, name: str, what: str | int, **options: object) -> dict:
    """What a voice of the page speaks: `samples` as an array, and the rest as the page says it."""
    made = ask(
        browser,
        "await ttsopt.speak(...arguments).then(({samples, ...rest}) => ({samples: Array.from(samples), ...rest}))",
        name,
        what,
        options,
    )
    return made | {"samples": np.array(made["samples"])}


def arrays(inputs: dict) -> dict[str, np.ndarray]:
    """What `web.json` says that a voice is fed."""
    return {name: np.array(one["values"], one["dtype"]).reshape(one["shape"]) for name, one in inputs.items()}


def spoken(voice: Path, ids: list[int], **feeds: np.ndarray) -> np.ndarray:
    session = open_session(onnx.load(str(voice)), 1)
    inputs = {
        "input": np.array([ids], np.int64),
        "input_lengths": np.array([len(ids)], np.int64),
        "scales": np.array([0, 1, 0], np.float32),
        **feeds,
    }
    wanted = {value.name for value in session.get_inputs()}
    (audio,) = session.run(None, {name: value for name, value in inputs.items() if name in wanted})
    return np.asarray(audio).reshape(-1)


def test_a_typed_sentence_is_what_python_speaks(plain_voice, browser, tmp_path):
    page = write_page(study_with("small"), plain_voice, tmp_path)
    text = "Nobody stored this."
    with served(browser, page):
        (ids,) = ask(browser, "await window.ttsopt.ids(arguments[0])", text)
        made = speak(browser, "small", text, scales=[0, 1, 0])
        expected = spoken(plain_voice, ids)
        assert made["samples"].size == expected.size and made["sampleRate"] == 22050 and made["seconds"] > 0
        assert np.abs(made["samples"] - expected).max() < 1e-3
        type_text(browser, text)
        for name in ("original", "small"):
            press(browser, f"Play {name}")
            wait(browser, lambda name=name: "times real time" in said(browser, name))
            wait(browser, lambda name=name: card(browser, name).find_element(By.TAG_NAME, "button").text == "Play")
            figures = r"[\d.]+ s for [\d.]+ s of audio: [\d.]+ times real time; first sound after [\d.]+ s"
            assert re.fullmatch(figures, said(browser, name))
        assert "of the original's time" in browser.find_element(By.ID, "compared").text
        speak(browser, "original", 0)
        assert not [bar for bar in browser.find_elements(By.TAG_NAME, "progress") if bar.is_displayed()]
        assert browser.execute_script("return [crossOriginIsolated, window.violations]") == [True, []]


def test_the_same_noise_makes_the_same_samples(plain_voice, browser, tmp_path):
    page = write_page(study_with(), plain_voice, tmp_path)
    model = onnx.load(str(plain_voice))
    (node,) = [node for node in model.graph.node if node.op_type == "RandomNormalLike"]
    model.graph.node.remove(node)
    model.graph.input.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None))
    file = page / "voices/original.onnx"
    onnx.save(model, str(file))
    about = json.loads((page / "web.json").read_text())
    (original,), stored = about["variants"], about["sentences"][1]
    ids = stored["inputs"]["input"]["values"]
    # the noise is as long as the speech, which is known when it was spoken once
    probe = open_session(onnx.load(str(plain_voice)), 1)
    samples = np.asarray(probe.run(None, arrays(stored["inputs"]))[0]).size
    noise = np.random.default_rng(0).standard_normal((1, 24, samples // 256), dtype=np.float32)
    stored["inputs"][node.output[0]] = {"dtype": "float32", "shape": noise.shape, "values": noise.reshape(-1).tolist()}
    stored["inputs"]["scales"]["values"] = [0.667, 1, 0]
    change(page, variants=[{**original, "bytes": file.stat().st_size}], sentences=about["sentences"])
    with opened(browser, page):
        made = speak(browser, "original", 1)["samples"]
    expected = spoken(file, ids, scales=np.array([0.667, 1, 0], np.float32), **{node.output[0]: noise})
    assert made.size == expected.size and np.abs(made - expected).max() < 1e-3


def test_a_device_is_measured_and_the_record_is_saved_and_sent(plain_voice, browser, tmp_path):
    page = write_page(study_with("small"), plain_voice, tmp_path)
    with served(browser, page, study="params/heard.yaml") as (server, about):
        seconds = browser.find_element(By.ID, "seconds")
        seconds.clear()
        seconds.send_keys("3")
        press(browser, "Start")
        wait(browser, lambda: browser.find_element(By.ID, "record").is_displayed())
        assert browser.find_element(By.ID, "measure-state").text.startswith("Done: ")
        assert [row.text.split()[0] for row in browser.find_elements(By.CSS_SELECTOR, "#rows tr")] == [
            "original",
            "small",
        ]
        press(browser, "Save as a file")
        downloads = tmp_path / "downloads"
        wait(browser, lambda: list(downloads.glob("*.json")))
        (saved,) = downloads.glob("*.json")
        press(browser, "Send to the server")
        wait(browser, lambda: browser.find_element(By.ID, "command-box").is_displayed())
        (sent,) = server.received.glob("*.json")
        assert str(sent) in browser.find_element(By.ID, "command").text
        assert faults(browser) == []
        assert browser.execute_script("return window.violations") == []
    record = json.loads(saved.read_text(encoding="utf-8"))
    assert record == json.loads(sent.read_text(encoding="utf-8"))
    check_record(record, about, plain_voice)


def check_record(record: dict, about: dict, voice: Path) -> None:
    assert record["format"] == "ttsopt browser record" and record["schema_version"] == 1
    assert record["study"] == "heard" and record["threads"] == [1] and record["provider"] == "wasm"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["created"])
    assert record["onnxruntime_web"] == about["onnxruntime_web"] and record["pauses"] == 0
    assert [one["text"] for one in record["sentences"]] == ["Yes.", SENTENCE]
    assert np.allclose(record["scales"], [0.667, 1, 0], atol=1e-6)
    told = record["browser"]
    assert (
        told["simd"] and told["cross_origin_isolated"] and told["logical_cores"] >= 1 and "Chrom" in told["user_agent"]
    )
    blocks = sum(one["blocks"] for one in record["sittings"])
    assert blocks >= 2 and blocks % 2 == 0 and record["stopped_by"] == "budget"
    for row in record["rows"]:
        assert row["threads"] == 1 and row["model_sha256"] == file_sha256(voice)
        assert len(row["load_seconds"]) == 1 and len(row["first_seconds"]) == 2
        for figures in (row["seconds"], row["audio_seconds"]):
            assert len(figures) == blocks and all(len(block) == 2 and min(block) > 0 for block in figures)


def test_a_page_that_cannot_begin_says_what_to_do(plain_voice, browser, tmp_path):
    page = write_page(study_with(), plain_voice, tmp_path)
    browser.get((page / "index.html").as_uri())
    assert "needs a server" in browser.find_element(By.ID, "opening").text
    with opened(browser, page) as (address, _):
        assert not browser.find_element(By.ID, "opening").is_displayed()
        (page / "player.js").unlink()
        browser.get(f"{address}/index.html")
        assert "load it again" in browser.find_element(By.ID, "opening").text


def test_a_page_works_below_any_path_and_asks_for_nothing_outside_its_folder(plain_voice, tmp_path, chromium):
    page = write_page(study_with(), plain_voice, tmp_path)
    log = tmp_path / "network.json"
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with files_of(page.parent) as (address, _), chromium(f"--log-net-log={log}", offline) as browser:
        open_page(browser, f"{address}/web/index.html")
        assert browser.execute_script("return [crossOriginIsolated, window.violations]") == [False, []]
        assert speak(browser, "original", "Typed.")["samples"].size > 1000
        ask(browser, "await ttsopt.measure({seconds: 1, maxBlocks: 2})")
    asked = [  # what the browser itself asks for has no page as its initiator
        event["params"]["url"] for event in events(log) if event["params"].get("initiator", "").startswith(address)
    ]
    assert len(set(asked)) > 8 and all(url.startswith(f"{address}/web/") for url in asked)


def events(log: Path) -> list[dict]:
    """What Chromium's log of its network says of addresses; it has an event in each line."""
    lines = (line.rstrip(",\n]}") for line in log.read_text(encoding="utf-8").splitlines() if '"url":' in line)
    found = []
    for line in lines:
        with suppress(ValueError):
            found.append(json.loads(line + "}" * (line.count("{") - line.count("}"))))
    return [event for event in found if "url" in event.get("params", {})]


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_texts_stay_texts_and_everything_fits(plain_voice, browser, tmp_path, width, scheme):
    texts = {"one_word": ["Yes."], "long": [HOSTILE]}
    page = write_page(study_with(title=HOSTILE + "long" * 60, texts=texts), plain_voice, tmp_path)
    about = json.loads((page / "web.json").read_text(encoding="utf-8"))
    names = [{**about["variants"][0], "name": name} for name in ("original", "<b>bold</b>" + "x" * 60)]
    change(page, study='<i>joe</i> & "co"', variants=names)
    set_width(browser, width)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    with served(browser, page):
        browser.find_element(By.ID, "seconds").clear()
        browser.find_element(By.ID, "seconds").send_keys("1")
        press(browser, "Start")
        wait(browser, lambda: browser.find_element(By.ID, "record").is_displayed())
        assert browser.find_element(By.ID, "subtitle").text.startswith("<img src=x")
        assert browser.find_elements(By.CSS_SELECTOR, "main img, main b, header i") == []
        assert browser.title.startswith("<i>joe</i>")
        room = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.execute_script(room) <= 0
        assert faults(browser) == []


def test_the_keyboard_is_enough(plain_voice, browser, tmp_path):
    page = write_page(study_with(), plain_voice, tmp_path)
    with served(browser, page):

        def tab_to(name: str) -> None:
            for _ in range(20):
                ActionChains(browser).send_keys(Keys.TAB).perform()
                focused = browser.switch_to.active_element
                assert focused.value_of_css_property("outline-style") == "solid"
                if focused.accessible_name == name:
                    return
            raise AssertionError(f"{name!r} cannot be reached with the tab key")

        tab_to("Text to speak")
        ActionChains(browser).send_keys(" More.").perform()
        tab_to("Play original")
        ActionChains(browser).send_keys(Keys.ENTER).perform()
        wait(browser, lambda: "times real time" in said(browser, "original"))
        tab_to("Start")
        ActionChains(browser).send_keys(Keys.ENTER).perform()
        wait(browser, lambda: browser.find_element(By.ID, "stop").is_displayed())
        assert browser.switch_to.active_element.accessible_name == "Stop"
        ActionChains(browser).send_keys(Keys.ENTER).perform()
        wait(browser, lambda: browser.find_element(By.ID, "start").is_displayed())
        assert browser.switch_to.active_element.accessible_name == "Start"


def test_a_voice_can_be_stopped_while_it_speaks_and_played_again(plain_voice, browser, tmp_path):
    page = write_page(study_with(), plain_voice, tmp_path)
    with served(browser, page):
        type_text(browser, "This is said again and again. " * 40)
        press(browser, "Play original")
        wait(browser, lambda: said(browser, "original") == "Speaking \u2026")
        press(browser, "Stop original")
        assert said(browser, "original") == "Stopped."
        type_text(browser, "Short.")
        press(browser, "Play original")
        wait(browser, lambda: "times real time" in said(browser, "original"))


def test_texts_are_shown_in_their_language_and_direction(plain_voice, browser, tmp_path):
    study = study_with(texts={"long": ["\u05e9\u05dc\u05d5\u05dd " + "\U0001d51e" * 100]})
    page = write_page(study.model_copy(update={"language": "he_IL"}), plain_voice, tmp_path)
    with opened(browser, page):
        option = browser.find_element(By.CSS_SELECTOR, "#sentence option")
        assert option.get_attribute("lang") == browser.find_element(By.ID, "text").get_attribute("lang") == "he-IL"
        assert [option.value_of_css_property("direction"), option.text[-3:]] == ["rtl", "\U0001d51e" * 2 + "\u2026"]


@pytest.mark.parametrize("ending", ["original.onnx", "onnxruntime.wasm"])
def test_a_connection_that_is_cut_is_said_and_tried_again(plain_voice, browser, tmp_path, ending):
    page = write_page(study_with(), plain_voice, tmp_path)
    with opened(browser, page) as (_, handler):
        handler.cut = {ending}
        press(browser, "Play original")
        wait(browser, lambda: "connection was cut" in said(browser, "original"))
        assert said(browser, "original").endswith("Check the connection and try again.")
        handler.cut = set()
        press(browser, "Try again original")
        wait(browser, lambda: "times real time" in said(browser, "original"))


def test_missing_files_and_a_lack_of_memory_or_simd_have_a_sentence(plain_voice, browser, tmp_path):
    page = write_page(study_with("small"), plain_voice, tmp_path)
    (page / "voices/small.onnx").unlink()
    about = json.loads((page / "web.json").read_text(encoding="utf-8"))
    huge = {**about["variants"][0], "name": "huge", "bytes": 2**53}
    change(page, variants=[*about["variants"], huge])
    with opened(browser, page) as (address, _):
        for name, words in (
            ("small", "voices/small.onnx is missing on the server"),
            ("huge", "too little memory for huge"),
        ):
            with pytest.raises(AssertionError, match=words):
                speak(browser, name, 0)
        browser.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": "WebAssembly.validate = () => false;"}
        )
        open_page(browser, address)
        assert "no SIMD" in browser.find_element(By.ID, "failure").text
        (page / "web.json").unlink()
        browser.get(address)
        wait(browser, lambda: "could not read web.json" in browser.find_element(By.ID, "failure").text)


def test_a_voice_whose_phonemes_no_page_can_make_speaks_what_is_stored_and_what_its_server_knows(
    plain_voice, browser, tmp_path
):
    page = write_page(study_with(texts={"short": [f"{SENTENCE} "]}), plain_voice, tmp_path)  # as files have it
    about = json.loads((page / "web.json").read_text(encoding="utf-8"))
    change(page, voice={**about["voice"], "espeak_voice": None})
    model = open_model(plain_voice)
    with opened(browser, page):
        assert not browser.find_element(By.ID, "text").is_displayed()
        assert speak(browser, "original", SENTENCE)["samples"].size > 1000
        with pytest.raises(AssertionError, match="choose a sentence of the study"):
            speak(browser, "original", "Something else.")
    with served(browser, page, inputs=partial(text_inputs, model, None)):
        assert browser.find_element(By.ID, "text").is_displayed()
        text = "Something else. And more."
        expected = sum(spoken(plain_voice, one["input"]["values"]).size for one in text_inputs(model, None, text))
        assert speak(browser, "original", text, scales=[0, 1, 0])["samples"].size == expected
        with pytest.raises(AssertionError, match="gives no phonemes"):
            speak(browser, "original", "...")


def test_pieces_put_together_are_the_whole_and_are_heard_at_once(plain_voice, browser, tmp_path):
    study = study_with("small")
    folder = folder_of(study, plain_voice, tmp_path)
    write_streaming(open_piper(plain_voice), folder.variant("small") / "streaming")
    page = write_web(study, folder)
    text = "A text of two sentences, of which this is the first. The second one is not much shorter than the first."
    with served(browser, page) as (_, about):
        assert [bool(one["pieces"]) for one in about["variants"]] == [False, True]
        whole = speak(browser, "small", text, scales=[0, 1, 0])
        pieces = speak(browser, "small", text, scales=[0, 1, 0], inPieces=True)
        assert whole["samples"].size == pieces["samples"].size
        assert np.abs(whole["samples"] - pieces["samples"]).max() < 1e-3
        assert 0 < pieces["firstSeconds"] < pieces["seconds"]
        type_text(browser, text)
        press(browser, "Play small")
        wait(browser, lambda: "first sound after" in said(browser, "small"))
        phrased = "A text of one long sentence, which has a pause, and of which each phrase is spoken by itself."
        phrases = phoneme_ids(open_piper(plain_voice).config, phrased, phrases=True)
        assert len(phrases) == 2
        expected = sum(spoken(plain_voice, ids).size for ids in phrases)
        assert speak(browser, "small", phrased, scales=[0, 1, 0], phrases=True)["samples"].size == expected
        before = said(browser, "small")
        press(browser, "Stop small")
        type_text(browser, phrased)
        browser.find_element(By.ID, "phrases").click()
        press(browser, "Play small")
        wait(browser, lambda: "first sound after" in said(browser, "small") and said(browser, "small") != before)
        with pytest.raises(AssertionError, match="cannot speak piece by piece"):
            speak(browser, "original", 0, inPieces=True)


def test_a_declared_model_speaks_what_it_is_fed_by_the_library(browser, tmp_path):
    study = study_with(declared=declare(tmp_path / "model", tiny_tts(noise=False)))
    folder = StudyFolder(study, tmp_path)
    source, original = source_model(study), folder.model("original")
    original.parent.mkdir(parents=True)
    shutil.copy(source.path, original)
    source.write_config(original)
    page = write_web(study, folder)
    model = open_model(original)
    with served(browser, page, inputs=partial(text_inputs, model, None)) as (_, about):
        assert about["voice"]["phoneme_ids"] is None and about["voice"]["output"] == "sound"
        for what, inputs in ((1, about["sentences"][1]["inputs"]), ("Typed.", text_inputs(model, None, "Typed.")[0])):
            made = speak(browser, "original", what)["samples"]
            (expected,) = open_session(onnx.load(str(original)), 1).run(["sound"], arrays(inputs))
            assert np.abs(made - np.asarray(expected).reshape(-1)).max() < 1e-3
        record = ask(browser, "await ttsopt.measure({seconds: 1, maxBlocks: 2})")
        assert record["scales"] == [] and len(record["rows"][0]["seconds"]) == 2
