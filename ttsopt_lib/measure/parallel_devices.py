"""Several devices in one study: different machines are timed at the same time, one machine's devices one by one.

A device that fails leaves "not measured" with its error on file, and the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ttsopt_lib.errors import system_words
from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.measure.remote.ssh import Connection
from ttsopt_lib.measure.timing import measure_device, record_failure
from ttsopt_lib.records.device import DeviceRecord
from ttsopt_lib.records.folder import StudyFolder
from ttsopt_lib.study import Device, Study


@dataclass(frozen=True)
class Outcome:
    """What became of one device; with an `error` the record is what stays on file."""

    device: Device
    record: DeviceRecord
    error: MeasureError | None = None


def measure_devices(
    study: Study, devices: Sequence[Device], folder: StudyFolder, *, again: bool = False, progress: bool = True
) -> list[Outcome]:
    """Measure every device; the outcomes are in the order of `devices`.

    This machine's devices are timed by the calling thread, each other machine's by a thread of its own. An interrupt
    aborts all of them. Raises RecordError for a variant that is not made yet.
    """
    machines: dict[str, list[Device]] = {}
    for device in devices:
        machines.setdefault(device.where, []).append(device)
    here = machines.pop("", [])
    connections = {device.name: Connection(device) for device in devices if device.runner == "ssh"}
    positions = {where: number for number, where in enumerate(machines, start=1)}

    def measure_one(device: Device) -> Outcome:
        try:
            record = measure_device(
                study,
                device,
                folder,
                progress=progress,
                again=again,
                connection=connections.get(device.name),
                position=positions.get(device.where, 0),
            )
        except (MeasureError, OSError) as error:
            failure = error if isinstance(error, MeasureError) else MeasureError(system_words(error))
            return Outcome(device, record_failure(study, device, folder, str(failure)), failure)
        return Outcome(device, record)

    def measure_all(group: list[Device]) -> list[Outcome]:
        return [measure_one(device) for device in group]

    with ThreadPoolExecutor(max(1, len(machines)), thread_name_prefix="device") as pool:
        try:
            started = [pool.submit(measure_all, group) for group in machines.values()]
            outcomes = measure_all(here)
            for future in started:
                outcomes += future.result()
        except BaseException:
            for connection in connections.values():
                connection.stop()
            raise
    by_name = {outcome.device.name: outcome for outcome in outcomes}
    return [by_name[device.name] for device in devices]
