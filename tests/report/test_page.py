"""The rendered report: one file that loads nothing, can be walked without eyes, and prints well."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import invented_records as records
import numpy as np
import pandas as pd
import pdf_reading
import pytest
import soundfile
from PIL import Image

from ttsopt_lib.evaluate.examples import ListeningRecord
from ttsopt_lib.evaluate.keys import voice_key
from ttsopt_lib.records.base import write_record
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.report import render
from ttsopt_lib.report.chapters.quality import quality_chart
from ttsopt_lib.report.chapters.sizes import sensitivity_chart
from ttsopt_lib.report.chapters.speed.timings import RTF_FORMULA, latency_chart
from ttsopt_lib.report.printing import pdf
from ttsopt_lib.report.printing.audio import Players, encoded
from ttsopt_lib.report.printing.plot_style import svg_text
from ttsopt_lib.report.schema import SensitivitySummary
from ttsopt_lib.report.sections import Report

LOADING = {"src", "srcset", "poster", "data", "background", "action", "formaction", "xlink:href"}


class Page(HTMLParser):
    """What a page would load, and how it is built."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.in_style = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = {key: value or "" for key, value in attrs}
        self.tags.append((tag, values))
        self.in_style = tag == "style"
        for key, value in values.items():
            if key in LOADING or (key == "href" and tag != "a"):
                self.loads.append(value)
            self._css(value)
            assert not key.startswith("on"), (tag, key)
        if tag == "a":
            self.links.append(values.get("href", ""))

    def handle_data(self, data):
        if self.in_style:
            assert "@import" not in data
            self._css(data)

    def handle_endtag(self, tag):
        self.in_style = False

    def _css(self, text: str) -> None:
        for part in text.split("url(")[1:]:
            self.loads.append(part.split(")")[0].strip("'\" "))

    def of(self, tag: str) -> list[dict[str, str]]:
        return [values for name, values in self.tags if name == tag]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["good", "many"])
def test_the_page_loads_nothing_and_runs_nothing(name, page):
    text = page(name)
    read = Page(text)
    assert not read.of("script") and not read.of("iframe") and not read.of("link")
    for target in read.loads:
        assert target.startswith(("data:", "#")), target[:80]
    assert "mathjax" not in text.lower() and "cdn" not in text.lower()
    assert len(text.encode()) < 8_000_000


@pytest.mark.slow
def test_the_page_can_be_walked_without_eyes(page):
    read = Page(page("good"))
    assert read.of("html")[0]["lang"] == "en" and read.of("main") and read.of("nav") and read.of("header")
    assert len(read.of("h1")) == 1
    levels = [int(tag[1]) for tag, _ in read.tags if tag in ("h1", "h2", "h3", "h4")]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = [values["id"] for _, values in read.tags if "id" in values]
    assert len(ids) == len(set(ids))
    for link in read.links:
        if link.startswith("#"):
            assert link[1:] in ids
    for values in read.of("th"):
        assert values.get("scope") in ("col", "row", "rowgroup")
    assert len(read.of("table")) == len(read.of("caption")) > 8
    pictures = [values for values in read.of("svg") if values.get("aria-hidden") != "true"]
    assert len(pictures) == 2 * len(read.of("figure")) == 10, "each has a form for phones"
    assert all(values["role"] == "img" and len(values["aria-label"]) > 40 for values in pictures)
    assert all(values.get("aria-label") for values in read.of("audio"))


@pytest.mark.slow
def test_the_page_has_the_sections_in_order_and_no_code(page):
    text = page("good")
    titles = ["1 Model quantization", "2 Fast inference", "3 Evaluation", "4 Trade-off analysis", "5 Conclusion"]
    places = [text.index(f">{title}</h2>") for title in titles]
    assert places == sorted(places)
    assert not re.search(r"(^|[> ])import \w", text) and "notebook_parameters" not in text
    assert RTF_FORMULA.partition(";")[0] in text
    assert "worse end" in text


@pytest.mark.slow
def test_where_nothing_qualifies_the_verdict_names_what_came_closest(page):
    cell = "no variant qualifies; <code>int8-weights</code> came closest"
    assert page("bad").count(cell) == 3  # size, latency, predicted MOS; nobody was asked for ratings
    assert cell.partition(";")[0] not in page("good")


@pytest.mark.slow
def test_every_voice_can_be_heard_and_downloaded(page, rendered):
    folder = rendered("good")
    read = Page(page("good"))
    wavs = [link for link in read.links if link.endswith(".wav")]
    assert {link.split("/")[1] for link in wavs} >= {"original", "int8-static", "distilled-int8"}
    assert all((folder.path / link).is_file() for link in wavs)
    assert len(read.of("audio")) == len(wavs)


@pytest.mark.slow
def test_everything_linked_is_there(rendered, page):
    folder = rendered("good")
    for link in Page(page("good")).links:
        if not link.startswith(("#", "http")):
            assert (folder.path / link).is_file(), link


@pytest.mark.slow
def test_tables_parse_and_figures_are_there(rendered):
    folder = rendered("many")
    files = sorted(folder.tables.glob("*.csv"))
    assert len(files) >= 12
    for path in files:
        assert len(pd.read_csv(path).columns) > 2, path.name
    devices = pd.read_csv(folder.tables / "devices.csv")
    assert set(devices["device"]) == {"CPU", "GPU", "Raspberry Pi", "Laptop"}
    assert all(devices["latency_reduction_low"].to_numpy() <= devices["latency_reduction_high"].to_numpy())
    assert {path.stem for path in folder.figures.glob("*.svg")} == {"size", "latency", "stages", "quality", "tradeoff"}


# The invented studies have no spectrograms, no search for mixed precision, no peers and no joules: two pages.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["good", "bad", "unmeasured", "many"])
def test_every_study_prints_on_6_to_14_pages(name, printed):
    fonts = " ".join(pdf_reading.fonts_of(printed(name)))
    most = 12 if "Liberation" in fonts else 13  # DejaVu, which any machine has, is wider than all that we ask for
    assert 6 <= len(pdf_reading.read(printed(name)).pages) <= most, fonts


@pytest.mark.slow
def test_the_pdf_has_bookmarks_and_relative_links(rendered, printed):
    bookmarks = pdf_reading.bookmarks_of(printed("good"))
    assert "1 Model quantization" in bookmarks and "5 Conclusion" in bookmarks
    links = pdf_reading.links_of(printed("good"))
    assert links and not [link for link in links if link.startswith("file:")]
    wavs = [link for link in links if link.endswith(".wav")]
    assert wavs and all((rendered("good").path / link).is_file() for link in wavs)
    text = pdf_reading.text_of(printed("good"))
    assert "NOT MEASURED" in text and "WAV" in text


@pytest.mark.slow
def test_what_paper_leaves_out_of_many_devices_is_said_to_be_elsewhere_and_is_there(rendered, page):
    folder = rendered("many")
    for name in ("devices", "stages", "quality"):
        assert f"tables/{name}.csv</code>." not in page("good"), name
    for name in ("amdahl", "length_classes", "devices", "stages"):
        assert "Laptop" in set(pd.read_csv(folder.tables / f"{name}.csv")["device"]), name
    shown = page("many").split('class="screen-only"')
    for device in ("cpu", "gpu", "raspberry_pi", "laptop"):
        assert any(f'<caption id="table-devices-{device}">' in part for part in shown[1:]), device


@pytest.mark.slow
def test_what_the_pdf_leaves_out_of_many_devices_it_says_where_to_find(printed):
    text = pdf_reading.text_of(printed("many"))
    for name in ("amdahl", "length_classes"):
        assert f"all of them: tables/{name}.csv" in text, name
    for name in ("devices", "stages", "quality"):
        assert f"report.html and tables/{name}.csv" in text, name
    assert "8 more: see report.html" in text


@pytest.mark.slow
def test_many_devices_stand_side_by_side_on_paper_alone(page):
    assert '<div class="paper-only">' in page("many") and '<div class="paper-only">' not in page("good")


@pytest.mark.slow
def test_the_pdf_sets_many_devices_side_by_side_and_few_one_by_one(printed):
    text = pdf_reading.text_of(printed("many"))
    assert "Median ms per sentence, and less time per second of audio" in text
    for device in ("CPU", "GPU", "Raspberry Pi", "Laptop"):
        assert f"{device}, ms" in text and f"Every timing on {device}" not in text
    assert "Every timing on CPU" in pdf_reading.text_of(printed("good"))


@pytest.mark.parametrize("name", ["figure-sensitivity", "figure-quality", "figure-latency"])
def test_forest_plots_have_letters_of_6_5_points_on_paper(name, summary):
    one = summary("many")
    one.sensitivity = [
        SensitivitySummary(
            variant="int8-static", group=f"dec/{number}", label=f"decoder {number}", layers=3, parameters=0.5, time=0.5,
            level_error_db=0.1 * number, spectral_distance_db=1.0, level_above_8khz_db=0.0, int8=number == 1,
        )
        for number in (1, 2)
    ]  # fmt: skip
    draw = {"sensitivity": sensitivity_chart, "quality": quality_chart, "latency": latency_chart}
    chart = draw[name.removeprefix("figure-")](one)
    sheet = (Path(render.__file__).parent / "template" / "report.css").read_text(encoding="utf-8")
    printed_inches = re.search(rf"#{name} svg[^{{]*{{ width: ([\d.]+)in", sheet)
    assert chart and printed_inches
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg_text(chart))]  # 72 units to an inch
    assert min(sizes) * float(printed_inches[1]) / chart.figure.get_figwidth() >= 6.5


@pytest.mark.slow
def test_the_summary_on_disk_is_the_one_in_the_page(rendered, page):
    summary = json.loads(rendered("good").summary.read_text())
    assert summary["created"] in page("good") and summary["source_sha256"] in page("good")
    reduction = next(row for row in summary["verdict"] if row["claim"] == "size_reduction")["measured"]
    assert f"{100 * reduction:.0f}\N{NARROW NO-BREAK SPACE}%" in page("good")


@pytest.mark.slow
def test_a_section_that_cannot_be_made_leaves_the_earlier_report_whole(case, tmp_path):
    study, devices, _ = case("good")
    folder = StudyFolder(study, tmp_path)  # no variants there
    folder.path.mkdir()
    for path in (folder.summary, folder.html, folder.pdf):
        path.write_text("old")
    with pytest.raises(render.ReportError, match="ttsopt optimize"):
        render.render_report(study, devices, folder)
    left = {path.name: path for path in folder.path.rglob("*") if path.is_file() and path.name != "report.ipynb"}
    whole = dict.fromkeys(("report.html", "report.pdf", "summary.json"), "old")
    assert {name: path.read_text() for name, path in left.items()} == whole


def test_a_printer_without_its_libraries_says_nothing_and_leaves_no_file(monkeypatch, tmp_path, capsys):
    (tmp_path / "weasyprint.py").write_text("print('eight lines of advice'); raise OSError('cannot load libpango')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
    with pytest.raises(pdf.PdfUnavailable, match="pango"):
        pdf.write_pdf("<p>x</p>", tmp_path / "x.pdf")
    assert capsys.readouterr() == ("", "") and not list(tmp_path.glob("*pdf*"))


def test_the_printer_loads_nothing():
    with pytest.raises(ValueError, match="must not load"):
        pdf._embedded("https://example.org/x.css")


def test_a_picture_inside_a_figure_is_printed(pango, tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 10, 10)).save(picture, format="PNG")
    source = base64.b64encode(picture.getvalue()).decode()
    svg = f'<svg viewBox="0 0 9 9"><image width="9" height="9" href="data:image/png;base64,{source}"/></svg>'
    pdf.write_pdf(f"<p>x</p>{svg}", tmp_path / "x.pdf")
    assert pdf_reading.pictures_of(tmp_path / "x.pdf") == [(4, 4)]


def test_contents_are_nested_by_level():
    page = render.with_anchors("<h2>One & two</h2><h3>A</h3><h3>B</h3><h2>Three</h2>")
    assert 'id="one-two"' in page or 'id="one--two"' in page
    found = render.contents(page)
    assert found.count("<ol>") == 2 and found.count("<li>") == 4 == found.count("</li>")


# --- audio ------------------------------------------------------------------------------------------------------


def test_embedded_audio_keeps_its_level(tmp_path):
    time = np.arange(22050) / 22050
    quiet = 0.05 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.wav", quiet, 22050, subtype="PCM_16")
    mime, data = encoded(tmp_path / "a.wav")
    assert mime == "audio/mpeg"
    samples, rate = soundfile.read(io.BytesIO(data))
    assert rate == 22050
    change = 20 * np.log10(np.sqrt(np.mean(samples[2000:-2000] ** 2)) / np.sqrt(np.mean(quiet**2)))
    assert abs(change) < 0.1


def test_embedded_audio_keeps_noise_above_8_khz(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.02, 44100)
    soundfile.write(tmp_path / "a.wav", noise, 22050, subtype="PCM_16")
    samples, _ = soundfile.read(io.BytesIO(encoded(tmp_path / "a.wav")[1]))

    def above(signal: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(signal[4000:36000])) ** 2
        hertz = np.fft.rfftfreq(32000, 1 / 22050)
        return 10 * np.log10(spectrum[(hertz > 8000) & (hertz < 10000)].mean())

    assert abs(above(samples) - above(noise)) < 2.0


def test_players_stop_at_their_budget_and_links_go_on(case, summary):
    _, _, folder = case("good")
    table = Players(folder, budget=0).table(summary("good"), ["original"], "x", "x")
    assert "<audio" not in table and table.count(".wav") == 2
    assert '<q dir="auto">' in table  # a text in another script than the page's
    table = Players(folder).table(summary("good"), ["original"], "x", "x")
    source = Page(table).of("audio")[0]["src"]
    assert base64.b64decode(source.split(",")[1])


def test_audio_of_an_earlier_file_of_a_voice_is_not_played(case, summary):
    _, _, folder = case("good")
    names = ["original", "fp32"]
    table = Players(folder, outdated=["fp32"]).table(summary("good"), names, "x", "x")
    first, second = table.split("<tbody>")[1].split("</tr>")[:2]
    assert "<audio" in first and "<audio" not in second and "made before this voice was changed" in second


def test_audio_is_played_where_the_models_are_not_and_not_after_a_model_has_changed(case, summary, tmp_path):
    study, _, _ = case("unmeasured")
    folder = StudyFolder(study, tmp_path)
    records.write_audio(folder, "original")
    model = folder.model("original")
    for path in (model, model.with_name(model.name + ".json")):
        path.write_text("a voice")
    spoken = ListeningRecord(
        key="", voice=voice_key(study, folder, "original"), sentences=list(study.sentences.listening)
    )
    write_record(folder.audio("original") / "listening.json", spoken)

    def players() -> int:
        return Report(summary("unmeasured"), folder, study).listening().text.count("<audio")

    assert players() == 2
    model.write_text("another voice")
    assert players() == 0
    model.unlink()
    assert players() == 2


def test_a_sentence_that_was_edited_since_is_not_shown_with_the_audio_of_another(case, summary, tmp_path):
    study, _, _ = case("unmeasured")
    folder = StudyFolder(study, tmp_path)
    records.write_audio(folder, "original")
    second = study.sentences.listening[1]
    write_record(
        folder.audio("original") / "listening.json", ListeningRecord(key="", sentences=["An earlier text.", second])
    )
    row = Players(folder).table(summary("unmeasured"), ["original"], "x", "x").split("<tbody>")[1]
    assert "not made" in row.split("</td>")[0] and 'audio/1.wav"' in row.split("</td>")[1]


def test_audio_that_was_not_made_is_said_to_be_missing(case, summary):
    _, _, folder = case("unmeasured")
    assert "not made" in Players(folder).table(summary("unmeasured"), ["original"], "x", "x")
