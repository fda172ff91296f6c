"""The progress bars of one device: one for each kind of work, one after another, on the same line of the terminal.

What is done stays as a line of its own, above the bars of all devices.
"""

from __future__ import annotations

from tqdm.auto import tqdm

UNITS = {
    "sending": "B",
    "comparing": "graph",
    "opening": "row",
    "warming up": "row",
    "energy": "round",
    "sentences at once": "round",
    "first sound": "%",
    "where the time goes": "variant",
}


class Bars:
    """A context manager. All is written to standard error.

    Args:
        label: of the device.
        budget_seconds: that the timing may take.
        progress: False shows nothing.
        position: line of the bars where several devices are measured at once.
    """

    def __init__(self, label: str, budget_seconds: float, progress: bool = True, position: int = 0):
        self._label, self._budget = label, budget_seconds
        self._place = {"disable": not progress, "position": position or None}
        self._bar: tqdm | None = None
        self._work = ""

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        self._close(complete=not failed)

    def doing(self, what: str) -> None:
        """Work whose length nobody knows: a line with the time that has gone by, drawn anew at every call."""
        text = f"{self._label}: {what}"
        bar = self._of("", desc=text, bar_format="[{elapsed}] {desc}")  # what is too long for the line is cut off
        bar.set_description_str(text)

    def tick(self, elapsed: float) -> None:
        """Seconds of the timing's budget that are gone; the first are those of earlier sittings, too."""
        line = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{remaining} left]"
        form = {"desc": f"timing on {self._label}", "bar_format": line, "initial": elapsed}
        total = max(self._budget, elapsed)  # min_blocks may go past the budget
        bar = self._of("timing", total=total, **form)
        bar.total = total
        bar.update(elapsed - bar.n)

    def step(self, work: str, done: int, total: int) -> None:
        """Units of a kind of work that are done, of all; the work is one of `UNITS`."""
        if not total:
            return
        unit = UNITS[work]
        form = {"desc": f"{self._label}: {work}", "unit": unit, "unit_scale": unit == "B"}
        bar = self._of(work, total=total, miniters=0, smoothing=0, **form)
        bar.total = total
        bar.update(done - bar.n)

    def _of(self, work: str, **form: object) -> tqdm:
        """The bar of a kind of work, in place of that of another kind."""
        if self._bar is None or self._work != work:
            self._close(complete=True)
            self._bar = tqdm(**form, **self._place)  # pyright: ignore[reportCallIssue, reportArgumentType]
            self._work = work
        return self._bar

    def _close(self, complete: bool) -> None:
        bar, self._bar = self._bar, None
        if bar is None or bar.disable:
            return
        if complete and self._work == "timing" and bar.n:
            bar.total = bar.n  # sharp figures come before the budget is spent
        if bar.gui:  # in a notebook each bar has a place of its own and stays there
            bar.close()
            return
        line = str(bar)
        bar.leave = False  # left there, it would be drawn over the first line, which may be another device's
        bar.close()
        tqdm.write(f"\r{line}", file=bar.fp)
