"""The record that a page saves, read as what it is: a file from outside, of which nothing is believed unchecked.

What passes is a device record of kind `browser`, with the raw samples that the library makes its figures of.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ttsopt_lib.records.base import RecordError
from ttsopt_lib.records.device import (
    BrowserRecord,
    DeviceRecord,
    Doubt,
    EnergyRecord,
    SittingRecord,
    StopRecord,
    SystemRecord,
    TimedSentence,
    TimingRow,
)
from ttsopt_lib.study import ORIGINAL, Name

FORMAT = "ttsopt browser record"
LARGEST = 20_000_000  # bytes of a file
MOST_BLOCKS, MOST_SENTENCES, MOST_ROWS = 1000, 200, 400
NO_ENERGY = "a browser has no energy counter"
ANEW = "measure on the page again, and give the file that it saves"
# In the order in which they are looked for: a browser also calls itself what it descends from.
BRANDS = (
    ("Edge", r"Edg(?:A|iOS)?/(\d+)"),
    ("Opera", r"OPR/(\d+)"),
    ("Samsung Internet", r"SamsungBrowser/(\d+)"),
    ("Firefox", r"(?:Firefox|FxiOS)/(\d+)"),
    ("Chrome", r"(?:Chrome|CriOS)/(\d+)"),
    ("Chromium", r"(?:HeadlessChrome|Chromium)/(\d+)"),
    ("Safari", r"Version/(\d+)[\d.]* (?:Mobile/\w+ )?Safari"),
)
SYSTEMS = (
    ("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("ChromeOS", "CrOS"), ("Windows", "Windows"),
    ("macOS", "Macintosh"), ("Linux", "Linux"),
)  # fmt: skip


def plain(text: str) -> str:
    """Text of somebody else in which no character means anything: to HTML, to a terminal, to what draws figures."""
    return " ".join(re.sub(r"[^\w .,:;()/+-]", " ", text, flags=re.ASCII).split())


Told = Annotated[str, StringConstraints(max_length=200), AfterValidator(plain)]
UserAgent = Annotated[str, StringConstraints(max_length=600), AfterValidator(plain)]
Moment = Annotated[str, StringConstraints(pattern=r"^20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d(\.\d{1,6})?Z$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,40}$")]
Seconds = Annotated[float, Field(gt=0, lt=100_000)]
Threads = Annotated[int, Field(ge=1, le=256)]
Sentences = Annotated[list[Seconds], Field(min_length=1, max_length=MOST_SENTENCES)]
Blocks = Annotated[list[Sentences], Field(min_length=2, max_length=MOST_BLOCKS)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class PageBrowser(_Part):
    """What the browser tells of itself and of the device."""

    user_agent: UserAgent
    brands: Told | None
    platform: Told | None
    mobile: bool
    logical_cores: Annotated[int, Field(ge=1, le=4096)] | None
    memory_gb: Annotated[float, Field(gt=0, le=100_000)] | None
    cross_origin_isolated: bool
    simd: bool
    webgpu: Told | None

    @property
    def brand(self) -> str:
        """'Chrome 156': of the brands that it shows people the one that tells most, else what its user agent says."""
        brands = self.brands.split(", ") if self.brands else []
        known = (f"{name} {found[1]}" for name, pattern in BRANDS if (found := re.search(pattern, self.user_agent)))
        return next((one for one in brands if "Chromium" not in one), brands[0] if brands else next(known, "a browser"))

    @property
    def where(self) -> str:
        """'Android', 'iPhone', 'Linux': the device or its system."""
        known = (name for name, word in SYSTEMS if word in self.user_agent)
        return next(known, self.platform or "an unknown system")

    @property
    def label(self) -> str:
        """What the report calls the device."""
        cores = f" ({self.logical_cores} cores)" if self.logical_cores else ""
        return f"{self.brand} on {self.where}"[:80] + cores

    @property
    def device(self) -> str:
        """A name for the device, which another version of the same browser there has as well."""
        brand = re.sub(r" \d[\d.]*", "", self.brand)
        facts = [brand, self.platform, self.mobile, self.logical_cores, self.memory_gb, self.webgpu]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        words = re.sub(r"[^a-z0-9]+", "-", f"{brand} {self.where}".lower()).strip("-")
        return f"browser-{words[:40]}-{digest[:4]}"


class PageSentence(_Part):
    """A sentence of the timing set as every voice was given it."""

    length_class: Name
    text: Annotated[str, StringConstraints(max_length=5000)]
    phonemes: Annotated[int, Field(ge=0, le=100_000)]


class PageRow(_Part):
    """Raw samples of one voice with one number of threads."""

    variant: Name
    threads: Threads
    model_sha256: Sha256
    load_seconds: Annotated[list[Seconds], Field(min_length=1, max_length=100)]
    first_seconds: Sentences
    seconds: Blocks
    audio_seconds: Blocks


class PageSitting(_Part):
    """A stretch of the measurement in which the page was seen."""

    started: Moment
    ended: Moment | None
    blocks: Annotated[int, Field(ge=0, le=100_000)]


class PageRecord(_Part):
    """Everything that a page found out about the device that it was open on."""

    format: Literal["ttsopt browser record"]
    schema_version: Literal[1]
    study: Name
    created: Moment
    commit: Commit | None
    onnxruntime_web: Version
    provider: Literal["wasm"]
    threads: Annotated[list[Threads], Field(min_length=1, max_length=16)]
    browser: PageBrowser
    scales: Annotated[list[Annotated[float, Field(ge=-1000, le=1000)]], Field(max_length=16)]
    sentences: Annotated[list[PageSentence], Field(min_length=1, max_length=MOST_SENTENCES)]
    rows: Annotated[list[PageRow], Field(min_length=1, max_length=MOST_ROWS)]
    stopped_by: Literal["budget", "max_blocks"]
    elapsed_seconds: Seconds
    sittings: Annotated[list[PageSitting], Field(max_length=1000)]
    pauses: Annotated[int, Field(ge=0, le=1_000_000)]
    warnings: Annotated[list[Annotated[str, StringConstraints(max_length=1000)]], Field(max_length=200)]

    @model_validator(mode="after")
    def _whole(self) -> PageRecord:
        names = [(row.variant, row.threads) for row in self.rows]
        if len(set(names)) != len(names):
            raise ValueError("a voice has two rows with the same number of threads")
        if len(set(self.threads)) != len(self.threads) or {threads for _, threads in names} != set(self.threads):
            raise ValueError("the numbers of threads are not those of the rows")
        for row in self.rows:
            blocks = len(next(one for one in self.rows if one.threads == row.threads).seconds)
            lengths = {len(one) for one in (row.first_seconds, *row.seconds, *row.audio_seconds)}
            if {len(row.seconds), len(row.audio_seconds)} != {blocks} or lengths != {len(self.sentences)}:
                raise ValueError(f"the timings of {row.variant} are not whole")
            if (ORIGINAL, row.threads) not in names:
                raise ValueError(
                    f"{row.variant} has no {ORIGINAL} to be compared with: measure on a page that has the original"
                )
        return self


def is_page_record(values: Any) -> TypeGuard[dict[str, Any]]:
    """Whether the content of a JSON file says that a page saved it."""
    return isinstance(values, dict) and values.get("format") == FORMAT


def read_page_record(content: str | bytes, origin: str | Path) -> PageRecord:
    """A page's record from its JSON. Raises `RecordError` with one line that names the `origin`."""
    if len(content) > LARGEST:
        raise RecordError(f"{origin}: larger than {LARGEST / 1e6:.0f} MB, which no record of a page is; {ANEW}")
    try:
        return PageRecord.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = plain(".".join(map(str, first["loc"])))[:80]
        said = first["msg"].removeprefix("Value error, ")[:200]
        place = f"{where}: " if where else ""
        raise RecordError(f"{origin}: not a record that a page saves ({place}{said}); {ANEW}") from None


def put_together(pages: Sequence[PageRecord]) -> PageRecord:
    """Records of one page that was asked for one number of threads after the other, as one.

    Args:
        pages: the first is of the number that targets refer to.
    """
    first = pages[0]
    return first.model_copy(
        update={
            "threads": [threads for page in pages for threads in page.threads],
            "rows": [row for page in pages for row in page.rows],
            "stopped_by": "budget" if any(page.stopped_by == "budget" for page in pages) else "max_blocks",
            "elapsed_seconds": sum(page.elapsed_seconds for page in pages),
            "sittings": [sitting for page in pages for sitting in page.sittings],
            "pauses": sum(page.pauses for page in pages),
            "warnings": list(dict.fromkeys(warning for page in pages for warning in page.warnings)),
        }
    )


def device_record(page: PageRecord) -> DeviceRecord:
    """A page's record as a device record, named after its browser. Its key is the hash of all that the page said.

    Blocks without their mirror image are left out: figures need pairs.
    """
    stops = {threads: _stop(page, threads) for threads in page.threads}
    return DeviceRecord(
        key=hashlib.sha256(page.model_dump_json().encode()).hexdigest(),
        device=page.browser.device,
        label=page.browser.label,
        kind="browser",
        status="measured",
        reason=None,
        created=_second(page.created),
        system=_system(page),
        sentences=[TimedSentence(**sentence.model_dump()) for sentence in page.sentences],
        scales=[float(f"{scale:.6g}") for scale in page.scales],  # 0.667 went through the model's float32
        rows=[_row(row, stops[row.threads].blocks) for row in page.rows],
        stopped_by=page.stopped_by,
        stops=list(stops.values()),
        sittings=[
            SittingRecord(
                started=_second(one.started),
                ended=one.ended and _second(one.ended),
                blocks=one.blocks,
                opened_at_once=1,
            )
            for one in page.sittings
        ],
        energy=EnergyRecord(source=None, reason=NO_ENERGY),
        elapsed_seconds=page.elapsed_seconds,
        warnings=[Doubt(text=text) for text in dict.fromkeys(plain(one)[:300] for one in page.warnings) if text],
        study=page.study,
        commit=page.commit,
    )


def _stop(page: PageRecord, threads: int) -> StopRecord:
    blocks = len(next(row for row in page.rows if row.threads == threads).seconds)
    return StopRecord(threads=threads, blocks=blocks - blocks % 2, stopped_by=page.stopped_by, widest_interval=None)


def _row(row: PageRow, blocks: int) -> TimingRow:
    return TimingRow(
        runtime="onnxruntime-web",
        peak_memory_mb=None,
        idle_memory_mb=None,
        seconds=row.seconds[:blocks],
        audio_seconds=row.audio_seconds[:blocks],
        **row.model_dump(exclude={"seconds", "audio_seconds"}),
    )


def _system(page: PageRecord) -> SystemRecord:
    """The machine below a browser, which tells little of it."""
    told = page.browser.model_dump(exclude={"brands"})
    return SystemRecord(
        hostname_hash=None,
        machine=None,
        cpu=None,
        board=None,
        logical_cores=page.browser.logical_cores,
        memory_mb=None,
        os=page.browser.where,
        kernel=None,
        governor=None,
        instruction_sets=[],
        accelerator=None,
        python=None,
        packages={"onnxruntime-web": page.onnxruntime_web},
        browser=BrowserRecord(name=page.browser.brand, onnxruntime_web=page.onnxruntime_web, **told),
    )


def _second(moment: str) -> str:
    """The moment without fractions of its second, as all records have it."""
    return re.sub(r"\.\d+Z$", "Z", moment)
