"""Workers and counters without processes and machines."""

from typing import Any

from ttsopt_lib.measure.plan import PlannedRow, TimingPlan


class Actor:
    """A worker without a process, which does nothing and does it at once."""

    def __init__(self, row: PlannedRow):
        self.row, self.pid = row, 1

    def __enter__(self) -> "Actor":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass

    def prepare(self) -> None:
        pass

    def wait(self) -> None:
        pass

    def allow(self, *_: object, **__: object) -> None:
        pass

    def load(self, plan: TimingPlan) -> dict[str, Any]:
        return {"load_seconds": [0.1], "idle_memory_mb": 10.0, "clock": "wall"}

    def time_new_length(self, number: int) -> float | None:
        return 0.01

    def repeat(self, seconds: float) -> dict[str, float]:
        return {"seconds": 1.0, "audio_seconds": 4.0}

    def profile(self, plan: TimingPlan) -> dict[str, dict[str, float]]:
        return {"stages": {}, "operators": {}}


class Counter:
    """An energy counter that has counted 5 J more whenever it is read."""

    source, spent = "a counter", 0.0

    def joules(self) -> float:
        self.spent += 5.0
        return self.spent
