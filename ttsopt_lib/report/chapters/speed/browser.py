"""Browsers: what was timed in them and what was not, what int8 becomes there, and the page to try the voices on."""

from __future__ import annotations

from ttsopt_lib.report.facts.browsers import browsers, lost_in, processor_beside
from ttsopt_lib.report.facts.findings import chosen, code, listed
from ttsopt_lib.report.numbers import FILE_SIZE, REDUCTION, counted
from ttsopt_lib.report.printing.html import bullets, escape
from ttsopt_lib.report.schema import DeviceSummary, Summary, WebSummary, WebVoice
from ttsopt_lib.study import ORIGINAL

SERVE = "`ttsopt web STUDY --serve` opens it; any server of static files does, and a phone can be measured on it"


def link(summary: Summary) -> str:
    """The way to the page with the voices; on paper, where it lies. Nothing where there is none."""
    if summary.web is None:
        return ""
    page = escape(summary.web.page)
    return (
        f'<p class="screen-only">Type a sentence and hear it in the browser: <a href="{page}">{page}</a> '
        f"({escape(SERVE)}).</p>"
        f'<p class="paper-only">Type a sentence and hear it in a browser: the page is <code>{page}</code> beside this '
        f"report ({escape(SERVE)}).</p>"
    )


def section(summary: Summary) -> list[str]:
    """Sentences about each browser that was timed, and what the page's visitors download."""
    said = [
        *(one for device in summary.timed_devices if device.kind == "browser" for one in notes(device)),
        *int8_notes(summary),
        *(download_notes(summary, summary.web) if summary.web else []),
    ]
    return [bullets(said)] if said else []


def notes(device: DeviceSummary) -> list[str]:
    """Which browser it was, what it told, and what was not measured in it."""
    browser = device.system.browser if device.system else None
    if browser is None:
        return []
    told = [counted(browser.logical_cores, "core")] if browser.logical_cores else []
    told += [f"{browser.memory_gb:g} GB of memory or more"] if browser.memory_gb else []
    tells = f" It tells of {listed(told)}." if told else ""
    one_thread = "" if browser.cross_origin_isolated else " Without isolation WebAssembly has one thread."
    there = f"the page times WebAssembly alone; there is {browser.webgpu}" if browser.webgpu else "there is none here"
    return [
        f"{device.label}: timed in {browser.words}, by onnxruntime-web {browser.onnxruntime_web}.{tells}{one_thread} "
        f"WebGPU: not measured ({there}). How much memory a voice takes a browser does not tell, and what it opens "
        "first has the runtime's own time in its load."
    ]


def int8_notes(summary: Summary) -> list[str]:
    """Which variants lose the speed of their int8 arithmetic in a browser, beside a processor's own figures."""
    said = []
    for device in browsers(summary):
        processor = processor_beside(summary, device)
        lost = lost_in(summary, device, processor) if processor else []
        if processor and lost:
            there, here = device.label, processor.label
            pairs = [f"`{v.variant}` {REDUCTION.figure(v.there)} in place of {REDUCTION.figure(v.here)}" for v in lost]
            said.append(f"Int8 arithmetic saves less time on {there} than on {here}: {listed(pairs)}.")
    why = "ONNX Runtime as npm has it uses no dot product of 8-bit numbers, which makes int8 fast on processors."
    return [*said, why] if said else []


def download_notes(summary: Summary, web: WebSummary) -> list[str]:
    """What a visitor downloads: the page with its runtime, and a voice."""
    known = {voice.variant: voice for voice in web.voices}
    said = f"`{web.page}`: the page, ONNX Runtime in WebAssembly and the phonemizer take {_download(web)}"
    totals = [
        f"with `{name}` {_download(web, known[name])}"
        for name in dict.fromkeys([ORIGINAL, *chosen(summary)])
        if name in known
    ]
    notes = [f"{said}; {listed(totals)}." if totals else f"{said}."]
    if stale := [voice.variant for voice in web.voices if not voice.current]:
        notes.append(f"`{web.page}` has earlier files of {code(stale)}: `ttsopt web` writes it again.")
    return notes


def _download(*parts: WebSummary | WebVoice) -> str:
    """'12.3 MB (4.5 MB compressed)', of all parts together."""
    size = FILE_SIZE.value(sum(part.size_bytes for part in parts))
    return f"{size} ({FILE_SIZE.value(sum(part.compressed_bytes for part in parts))} compressed)"
