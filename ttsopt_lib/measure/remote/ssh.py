"""Commands and files over the system's own OpenSSH and rsync, to one device.

Host keys are checked and no password is ever asked for (`BatchMode`), so that a run either goes on alone or says
at once why it cannot. Locally everything is an argument list. The far side has a shell: every word that reaches it
is quoted, and the folder that rsync writes to is held to plain characters by `Device`.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ttsopt_lib.measure.process import MeasureError
from ttsopt_lib.paths import resolve
from ttsopt_lib.study import Device

CONNECTION_FAILED = 255  # ssh's own exit code; everything else is the far command's
NOT_FOUND = 127
RSYNC_FILE_IO = 11  # its reason often does not make it through a connection that ends there
SILENCE_SECONDS = 1.0  # after which a command that says nothing is known to be still at work
RESUME = "what was finished is kept there, the same command goes on from it"
SENT = re.compile(r"\s*(\d+)\s+\d+%\s")  # rsync's line: bytes sent, their share of all that is there
REASONS = (  # what ssh, rsync and the far system say -> what a person does about it; the first that fits
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "its host key is not the known one: find out why before you go on"),
    ("Host key verification failed", "its host key is not known here: connect once by hand and compare fingerprints"),
    ("Permission denied (", "it does not accept our key; ssh-copy-id puts it there (a password is never asked for)"),
    ("Could not resolve hostname", "there is no host of that name"),
    ("Connection refused", "no ssh server answers there: is ssh enabled?"),
    ("Connection timed out", "it does not answer: is it switched on and in the same network?"),
    ("No route to host", "it does not answer: is it switched on and in the same network?"),
    (
        "is your shell clean?",
        "its login prints something: a shell start-up file there must be silent without a terminal",
    ),
    ("No space left on device", f"its disk is full: make room there; {RESUME}"),
    ("Disk quota exceeded", f"its disk is full: make room there; {RESUME}"),
)


class Connection:
    """How to reach one device. Nothing stays open between two calls."""

    def __init__(self, device: Device):
        assert device.host is not None, "Device has checked it"
        self.host = device.host
        self._options = ssh_options(device)
        self._running: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self, words: Sequence[str], heard: Callable[[str], None] = lambda line: None) -> str:
        """Run a command there and return what it printed. Raises `MeasureError` in one line.

        `heard` gets each line as it comes, and an empty one for each second without any; also for a blank line and
        once at the end.
        """
        output, errors, code = self._carry_out(["ssh", *self._options, "--", self.host, shlex.join(words)], heard)
        if code:
            raise self.error(code, errors, words[0])
        return output

    def send(self, folder: Path, target: str, sent: Callable[[int], None] = lambda size: None) -> None:
        """Send what is in `folder` to the folder `target` there; files that links point to, not the links.

        A file appears under its name when it is whole, and one that was cut off goes on where it was. `sent` gets the
        bytes that are through, of the files that had to be sent, about once a second; where this machine's rsync does
        not tell them (before 3.1, and macOS' own), the last value is told again.
        Raises `MeasureError`.
        """
        size = 0

        def heard(line: str) -> None:
            nonlocal size
            found = SENT.match(line)
            size = int(found[1]) if found else size
            sent(size)

        shell = shlex.join(["ssh", *self._options])
        command = ["rsync", "--recursive", "--copy-links", "--partial-dir=.partial", "--timeout=120"]
        if self._carry_out(["rsync", "--info=help"])[2] == 0:
            command += ["--info=progress2", "--no-human-readable"]
        _, errors, code = self._carry_out(
            [*command, f"--rsh={shell}", "--", f"{folder}/", f"{self.host}:{target}/"], heard
        )
        if "rsync: command not found" in errors or "rsync: not found" in errors:
            raise MeasureError(f"{self.host}: rsync is missing there: sudo apt install rsync")
        if code == RSYNC_FILE_IO and "No space left" not in errors:
            why = f"a file could not be written to {target}: is the disk full or write-protected?"
            raise MeasureError(f"{self.host}: {why} {RESUME}")
        if code:
            raise self.error(code, errors, "rsync")

    @contextmanager
    def talk(self, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """A command there with our ends of its input and output. Raises `MeasureError` where it failed."""
        command = ["ssh", *self._options, "--", self.host, shlex.join(words)]
        with self._started(command, subprocess.PIPE) as (process, log):
            yield process
            if code := process.wait():
                raise self.error(code, _text(log), words[0])

    def stop(self) -> None:
        """Break off whatever runs; the call that waits for it raises. May be called from another thread."""
        self._stopped = True
        if self._running is not None:
            self._running.kill()

    def error(self, code: int, said: str, command: str) -> MeasureError:
        """What went wrong, as one line that begins with the host."""
        lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
        last = lines[-1][:300] if lines else f"exit code {code}"
        for sign, advice in REASONS:
            if sign in said:
                return MeasureError(f"{self.host}: {advice}")
        if self._stopped:
            return MeasureError(f"{self.host}: interrupted; {RESUME}")
        if code == NOT_FOUND:
            return MeasureError(f"{self.host}: there is no {command!r} ({last})")
        if code == CONNECTION_FAILED or "connection unexpectedly closed" in said:
            return MeasureError(f"{self.host}: the connection was lost ({last}); {RESUME}")
        return MeasureError(f"{self.host}: {last}")

    def _carry_out(self, command: list[str], heard: Callable[[str], None] = lambda line: None) -> tuple[str, str, int]:
        with self._started(command, subprocess.DEVNULL) as (process, log):
            assert process.stdout is not None
            output = _listen(process.stdout.fileno(), heard)
            code = process.wait()
            return output.decode(errors="replace"), _text(log), code

    @contextmanager
    def _started(self, command: list[str], stdin: int) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        """A command, and the file of its errors: in English, because they are read. It is gone afterwards."""
        with tempfile.TemporaryFile() as log:
            english = {**os.environ, "LC_ALL": "C"}
            try:
                process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=log, env=english)
            except FileNotFoundError:
                package = "rsync" if command[0] == "rsync" else "openssh-client"
                raise MeasureError(f"{command[0]} is missing on this machine: sudo apt install {package}") from None
            self._running = process
            try:
                if self._stopped:
                    process.kill()
                yield process, log
            finally:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
                self._running = None


def _text(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")


def _listen(descriptor: int, heard: Callable[[str], None]) -> bytes:
    """All that comes, to its end; `heard` is called as `run` says."""
    output, unfinished = b"", b""
    while True:
        if not select.select([descriptor], [], [], SILENCE_SECONDS)[0]:
            heard("")
            continue
        chunk = os.read(descriptor, 65536)
        output += chunk
        *lines, unfinished = re.split(rb"[\r\n]", unfinished + chunk)
        for line in lines if chunk else [unfinished]:
            heard(line.decode(errors="replace"))
        if not chunk:
            return output


def ssh_options(device: Device) -> list[str]:
    """The options of every connection. Those given here come before the user's own configuration."""
    options = [
        "-T",
        "-oBatchMode=yes",
        "-oStrictHostKeyChecking=yes",
        "-oForwardAgent=no",
        "-oClearAllForwardings=yes",
        "-oPermitLocalCommand=no",
        "-oConnectTimeout=20",
        "-oServerAliveInterval=15",
        "-oServerAliveCountMax=4",
    ]
    if device.port is not None:
        options += ["-p", str(device.port)]
    if device.identity is not None:
        options += ["-oIdentitiesOnly=yes", "-i", _literal(device.identity)]
    if device.known_hosts is not None:
        options.append(f'-oUserKnownHostsFile="{_literal(device.known_hosts)}"')
    return options


def _literal(path: Path) -> str:
    """A path that ssh takes as it is: it would expand % otherwise."""
    return str(resolve(path)).replace("%", "%%")
