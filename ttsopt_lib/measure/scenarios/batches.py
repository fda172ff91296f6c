"""Several sentences spoken at once: how many seconds of audio a row makes in a second, as a server cares for it.

After blocks and energy each row speaks the same sentences in batches of each size, row after row, forwards and then
backwards. A sentence counts with its own length; what fills up the shorter ones of a batch counts nowhere.

PyTorch speaks in its plain modes alone: a CUDA graph is for one shape, and batches of a server's sentences would need
one for every pair of size and length, each with memory of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttsopt_lib.measure.plan import PlannedBatches, PlannedRow, TimingPlan, timed_variants
from ttsopt_lib.measure.process import PATIENCE_SECONDS, MeasureError, Worker
from ttsopt_lib.paths import resolve
from ttsopt_lib.records.device import BatchRow
from ttsopt_lib.study import ORIGINAL, Device, Study, TorchMode

if TYPE_CHECKING:
    from ttsopt_lib.voices.adapters.model import TtsModel

SENTENCES = 32  # the first evaluation sentences; as many as the largest batch has, where that is more
MODES: tuple[TorchMode, ...] = ("fp32", "fp16")
SECONDS = 30.0  # of everything here, where rows are fast: `limit_seconds` of params/gpu.yaml has no more to spare
VISIT_SECONDS = 0.5  # of a row and size in a round, or what the time above allows; at least all sentences once
FEWEST_PAIRS, MOST_PAIRS = 3, 10  # of rounds, which are each other's mirror
WARM_UP_SHARE = 2 / 3  # of what is left of `limit_seconds`, on an accelerator, where each new shape takes long
NO_TIME = "no time was left for it within limit_seconds"


@dataclass
class _Entry:
    """A row at one size: who speaks, and where its samples go."""

    worker: Worker
    record: BatchRow
    pass_seconds: float = 0.0  # over all sentences, when none of their shapes was new any more


def plan_batches(study: Study, device: Device, voice: TtsModel) -> PlannedBatches | None:
    """What the device's file asks for: `original` and the variants of `measure.more_threads`; needs the phonemizer."""
    if not device.batch_sizes:
        return None
    about = {"sizes": device.batch_sizes, "variants": timed_variants(study, first=False)}
    if not voice.is_vits:
        return PlannedBatches(**about, reason=f"only a Piper voice is spoken so, and this is {voice.kind}")
    spoken = [tuple(voice.utterance_ids(text)) for text in batch_texts(study, device)]
    return PlannedBatches(**about, sentences=tuple(sorted(spoken, key=len)))


def batch_texts(study: Study, device: Device) -> list[str]:
    """The sentences that are spoken at once. Raises `TextError` where the study's file has none."""
    from ttsopt_lib.voices.text import read_sentences

    asked = study.sentences.evaluation
    count = min(asked.count, max(SENTENCES, *device.batch_sizes))
    return read_sentences(resolve(asked.file))[asked.start : asked.start + count]


def batch_rows(plan: TimingPlan) -> list[PlannedRow]:
    """The rows that speak several sentences at once: in ONNX Runtime, and on an accelerator in PyTorch too."""
    wanted = plan.batches.variants if plan.batches else ()
    return [
        row
        for row in plan.rows_with(plan.thread_counts[0])
        if row.variant in wanted
        and row.mode in MODES
        and (row.runtime == "onnxruntime" or (row.runtime == "pytorch" and row.accelerator))
    ]


def batch_reserve(plan: TimingPlan) -> float:
    """What is kept of `limit_seconds` for it."""
    return SECONDS if plan.batches and not plan.batches.reason and not plan.only_timing else 0.0


def measure_batches(
    plan: TimingPlan,
    step: Callable[[int, int], None] = lambda done, total: None,
    opened: Callable[[ExitStack], list[Worker]] | None = None,
    end: float = float("inf"),
) -> list[BatchRow]:
    """Every row of the plan's batches at every size, with samples or with the reason why it has none.

    Args:
        step: gets the visits done and in all, the uncounted ones among them; never called within one.
        opened: gives workers that are open and warm; those that take no part are closed. Default: new ones.
        end: on the monotonic clock; what was spoken until then is kept.
    """
    if plan.batches is None or plan.only_timing:
        return []
    rows, asked = batch_rows(plan), plan.batches
    found = [[_record(row, size, len(asked.sentences)) for size in asked.sizes] for row in rows]
    everything = [record for records in found for record in records]
    if not asked.reason:
        began = time.monotonic()
        try:
            with ExitStack() as stack:
                workers = opened(stack) if opened else [stack.enter_context(Worker(row)) for row in rows]
                for worker in workers:
                    if worker.row not in rows:
                        worker.close()  # its memory is needed
                taking_part = [worker for worker in workers if worker.row in rows]
                entries = [_Entry(one, record) for one in taking_part for record in found[rows.index(one.row)]]
                _in_rounds(plan, entries, began, end, step, load=opened is None)
        except MeasureError as error:  # an accelerator's rows could not be opened again
            _leave_out(everything, str(error))
    for record in everything:
        if len(record.seconds) < 2:  # of which nobody can tell how sure they are
            record.seconds, record.audio_seconds = [], []
            record.reason = record.reason or asked.reason or NO_TIME
    return everything


def _record(row: PlannedRow, size: int, sentences: int) -> BatchRow:
    return BatchRow(
        variant=row.variant,
        runtime=row.runtime,
        threads=row.threads,
        mode=row.mode,
        batch_size=size,
        sentences=sentences,
        reason=f"the study has {sentences} evaluation sentences" if 0 < sentences < size else None,
    )


def _leave_out(records: Sequence[BatchRow], why: str) -> None:
    """Go on without them; what they have is kept."""
    for record in records:
        record.reason = record.reason or why


def _in_rounds(
    plan: TimingPlan, entries: Sequence[_Entry], began: float, end: float, step: Callable[[int, int], None], load: bool
) -> None:
    """Warm up every batch of every size, then speak in mirrored rounds, into the records.

    A size that fails is left out. So are all of a worker that dies or hangs.
    """
    # neighbours in time are those that are compared: the rows at one size
    sizes = plan.batches.sizes if plan.batches else ()
    in_turn = sorted(entries, key=lambda one: sizes.index(one.record.batch_size))
    done, total = 0, (1 + 2 * FEWEST_PAIRS) * len(entries)

    def speak(entry: _Entry, seconds: float, counts: bool) -> None:
        nonlocal done
        step(done, max(done, total))
        done += 1
        record = entry.record
        with _unless_it_fails(entry.worker, entries, end):
            spoken = entry.worker.speak_batches(record.batch_size, seconds)
            if "failed" in spoken:
                _leave_out([record], spoken["failed"])
                return
            record.padding = spoken["padding"]
            if "device_memory_mb" in spoken:
                record.device_memory_mb = max(record.device_memory_mb or 0.0, spoken["device_memory_mb"])
            if counts:
                record.seconds.append(spoken["seconds"])
                record.audio_seconds.append(spoken["audio_seconds"])
            else:
                entry.pass_seconds = spoken["seconds"]

    warm = began + WARM_UP_SHARE * (end - began)  # until when shapes may be new
    workers = list({id(one.worker): one.worker for one in entries}.values())
    accelerated = any(worker.row.accelerator for worker in workers)
    for number, worker in enumerate(workers):
        own = [one for one in entries if one.worker is worker and one.record.reason is None]
        if accelerated and time.monotonic() >= warm:
            _leave_out([one.record for one in own], NO_TIME)
            continue
        now, is_original = time.monotonic(), worker.row.variant == ORIGINAL
        until = now + ((warm if accelerated else end) - now) / (len(workers) - number)  # the others need theirs
        if accelerated and is_original:  # all that its runtime's rows are compared with
            until = warm
        with _unless_it_fails(worker, entries, until):
            if load:
                worker.load(plan)
            alone = worker.open_batches(plan)["seconds"]
            for entry in own:
                entry.pass_seconds = alone
        for entry in own:
            new_shapes = entry.record.batch_size > 1
            for _ in range(new_shapes + accelerated):  # there the first pass says nothing about the next
                if time.monotonic() >= until:
                    _leave_out([entry.record], NO_TIME)
                if entry.record.reason is None:
                    speak(entry, 0.0, counts=False)

    left = min(SECONDS - (time.monotonic() - began), end - time.monotonic())
    ready = _that_fit([one for one in in_turn if one.record.reason is None], end - time.monotonic())
    visit = min(VISIT_SECONDS, max(0.0, left) / (2 * FEWEST_PAIRS * max(1, len(ready))))
    longest = 2 * sum(max(visit, one.pass_seconds) for one in ready)  # of a pair
    for pair in range(MOST_PAIRS):
        now = time.monotonic()
        enough = pair >= FEWEST_PAIRS and now + longest > began + SECONDS
        if not ready or enough or now + longest > end:
            break
        for turn in (ready, ready[::-1]):
            for entry in turn:
                if entry.record.reason is None:
                    speak(entry, visit, counts=True)
        ready = [one for one in ready if one.record.reason is None]
        longest = time.monotonic() - now
    step(done, done)  # fewer than the total where something dropped out


def _that_fit(ready: Sequence[_Entry], left: float) -> list[_Entry]:
    """As many as can have the fewest rounds in so many seconds; the slowest are left out, the original's last.

    On a processor a pass may take minutes, and the end of the whole measurement alone limits them.
    """
    kept = list(ready)
    if not any(one.worker.row.accelerator for one in kept):
        return kept
    while kept and 2 * FEWEST_PAIRS * sum(one.pass_seconds for one in kept) > left:
        slowest = max(kept, key=lambda one: (one.record.variant != ORIGINAL, one.pass_seconds))
        _leave_out([slowest.record], NO_TIME)
        kept.remove(slowest)
    return kept


@contextmanager
def _unless_it_fails(worker: Worker, entries: Sequence[_Entry], end: float) -> Iterator[None]:
    """Go on without a worker that fails, or gives no answer in time."""
    try:
        if not worker.is_open:
            raise MeasureError(f"the worker of {worker.row.label} ended before")
        most = SECONDS if worker.row.accelerator else PATIENCE_SECONDS  # there a longer answer leaves none for others
        worker.allow(None, patience=min(most, max(1.0, end - time.monotonic())))
        yield
    except MeasureError as error:
        worker.close()
        _leave_out([one.record for one in entries if one.worker is worker], str(error))
