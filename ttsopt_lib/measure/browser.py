"""Headless Chromium on this machine as a device: it opens a page of the study's voices, which times them itself.

The page is the one that `ttsopt web` writes, so that a phone that opens it is measured in the same way.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.measure.blocks import FIRST_SHARE, widest
from ttsopt_lib.measure.devices import INSTALL_BROWSER, chromium
from ttsopt_lib.measure.machine.conditions import ConditionsWatch
from ttsopt_lib.measure.machine.system import describe_system
from ttsopt_lib.measure.plan import timed_variants, typical_sentence
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.measure.progress import Bars
from ttsopt_lib.measure.sample_checks import sample_doubts
from ttsopt_lib.records.base import RecordError
from ttsopt_lib.records.device import DeviceRecord, Doubt
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Device, MeasureSettings, Study

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from ttsopt_lib.web.records import PageRecord

LOOK_SECONDS = 2.0  # between two looks at the page: each takes a moment of a core
READY_SECONDS = 60.0  # for the page, which reads one small file
PATIENCE_SECONDS = 600.0  # in which a step of the page has to end

READY = """
const done = arguments[arguments.length - 1];
const look = () => {
  if (!window.ttsopt) return setTimeout(look, 100);
  window.ttsopt.ready.then(() => done(null), (error) => done(String(error.message ?? error)));
};
look();
"""
START = """
window.ttsoptFound = null;
window.ttsopt.measure(arguments[0]).then(
  (record) => { window.ttsoptFound = {record: JSON.stringify(record)}; },
  (error) => { window.ttsoptFound = {error: String(error.message ?? error)}; });
"""
LOOK = "return {found: window.ttsoptFound, progress: window.ttsopt.progress ?? null};"


def measure_in_browser(
    study: Study, device: Device, folder: StudyFolder, settings: MeasureSettings, bars: Bars
) -> DeviceRecord:
    """Time the study's voices in headless Chromium; what was found, under the device's name.

    With each further number of threads the page has those voices alone that `measure.more_threads` names.

    Raises:
        MeasureError: the page cannot be written, opened or run.
    """
    from ttsopt_lib.web.records import device_record, put_together

    pages: list[PageRecord] = []
    shares = [FIRST_SHARE, *[1.0] * (len(device.threads) - 1)]
    watches: list[ConditionsWatch] = []
    with _page(study, folder, bars) as address, _opened_browser(bars) as driver:
        for position, threads in enumerate(device.threads):
            asked = {
                "seconds": settings.budget_seconds * shares[position] / sum(shares),
                "threads": threads,
                "variants": list(timed_variants(study, first=not position)),
                "minBlocks": settings.min_blocks + settings.min_blocks % 2,
                "maxBlocks": settings.max_blocks - settings.max_blocks % 2,
            }
            spent = sum(page.elapsed_seconds for page in pages)
            watches.append(ConditionsWatch())
            pages.append(_measured(driver, address, asked, spent, bars, watches[-1]))
    record = with_figures(device_record(put_together(pages)), settings)
    told = dict.fromkeys(text for watch in watches for text in watch.warnings)
    record.warnings = [*(Doubt(text=text) for text in told), *record.warnings]
    assert record.system is not None
    system = describe_system()
    system.packages, system.browser = record.system.packages, record.system.browser
    system.temperature_c = (watches[0].temperature_c[0], watches[-1].temperature_c[1])
    system.throttling = (watches[0].throttling[0], watches[-1].throttling[1])
    record.system = system
    record.device, record.label = device.name, device.label
    return record


def with_figures(record: DeviceRecord, settings: MeasureSettings) -> DeviceRecord:
    """A page's record, to which is added what the library finds in its samples: intervals, and what is doubtful."""
    cores = record.system.logical_cores if record.system else None
    for stop in record.stops:
        stop.widest_interval = widest([row for row in record.rows if row.threads == stop.threads])
    record.warnings += sample_doubts(record.rows, settings, cores or max(row.threads for row in record.rows))
    record.first_audio_sentence = typical_sentence([sentence.phonemes for sentence in record.sentences])
    return record


@contextmanager
def _page(study: Study, folder: StudyFolder, bars: Bars) -> Iterator[str]:
    """A page of every voice of the study, served on this machine; its address. One that people use stays as it is."""
    from ttsopt_lib.web.build import write_web
    from ttsopt_lib.web.serve import Server

    bars.doing("writing the page")
    cache = folder.path / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="web-", dir=cache) as name:
        try:
            page = write_web(study, folder, target=Path(name) / "web")
            with Server(page, received=Path(name) / "received") as server:
                yield server.address
        except (RecordError, MeasureError):
            raise
        except TtsoptError as error:  # of the page, of a voice that it cannot have
            raise MeasureError(str(error)) from None


@contextmanager
def _opened_browser(bars: Bars) -> Iterator[Chrome]:
    """Headless Chromium, gone afterwards with all its processes. Raises `MeasureError`."""
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    bars.doing("opening Chromium")
    options = ChromeOptions()
    options.binary_location = chromium() or ""
    for argument in ("--headless=new", "--disable-dev-shm-usage", "--mute-audio"):
        options.add_argument(argument)
    if os.geteuid() == 0:  # it refuses to start as root with its sandbox
        options.add_argument("--no-sandbox")
    try:
        driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    except WebDriverException as error:
        said = f"Chromium did not start ({_said(error)}); {INSTALL_BROWSER} brings both of one version"
        raise MeasureError(said) from None
    try:
        driver.set_script_timeout(READY_SECONDS)
        yield driver
    finally:
        driver.quit()


def _processes(driver: Chrome) -> list[int]:
    """The process ids of a browser and of what drives it."""
    first = psutil.Process(driver.service.process.pid)  # pyright: ignore[reportOptionalMemberAccess]
    return [first.pid, *(child.pid for child in first.children(recursive=True))]


def _measured(
    driver: Chrome, address: str, asked: dict[str, Any], spent: float, bars: Bars, watch: ConditionsWatch
) -> PageRecord:
    """What the page found with one number of threads, and `watch` of the machine meanwhile. Raises `MeasureError`.

    Each number of threads has a page and a watch of its own: what an earlier page's process did would be others' work.
    """
    from selenium.common.exceptions import WebDriverException

    from ttsopt_lib.web.records import read_page_record

    try:
        driver.get(address)
        if said := driver.execute_async_script(READY):
            raise MeasureError(f"the page does not open in Chromium: {said}")
        with watch:
            driver.execute_script(START, asked)
            found = _awaited(driver, spent, bars, watch)
    except WebDriverException as error:
        raise MeasureError(f"Chromium failed while the page measured ({_said(error)}); measure again") from None
    if "error" in found:
        raise MeasureError(f"the page could not measure: {found['error']}")
    try:
        return read_page_record(found["record"], "what the page measured")
    except RecordError as error:
        raise MeasureError(str(error)) from None


def _awaited(driver: Chrome, spent: float, bars: Bars, watch: ConditionsWatch) -> dict[str, Any]:
    """What the page leaves when it is done. While it does the same for too long, it is given up."""
    began = changed = time.monotonic()
    doing: Any = None
    while True:
        time.sleep(LOOK_SECONDS)
        watch.ignore(_processes(driver))
        watch.sample()
        looked = driver.execute_script(LOOK)
        if looked["found"]:
            return looked["found"]
        now = time.monotonic()
        progress = looked["progress"] or {}
        if progress != doing:
            doing, changed = progress, now
        elif now - changed > PATIENCE_SECONDS:
            raise MeasureError(
                f"the page has been {progress.get('doing') or 'at work'} for {now - changed:.0f} s: measure fewer "
                f"variants in a browser, or on a machine with more memory"
            )
        words = str(progress.get("doing") or "starting")
        if words.startswith("block"):
            bars.tick(spent + now - began)
        else:  # what comes before the blocks
            bars.doing(f"{words} in the browser")


def _said(error: Exception) -> str:
    return (str(getattr(error, "msg", None) or error).strip().splitlines() or [type(error).__name__])[0][:200]
