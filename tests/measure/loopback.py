"""A real sshd on loopback for the tests: the current user, a high port, keys of its own, nothing of the system's."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from ttsopt_lib.params import check
from ttsopt_lib.study import Device

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
{more}
"""


def sshd_path() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Loopback:
    """One running sshd. `more` are further lines of its configuration."""

    def __init__(self, folder: Path, more: str = ""):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        for name in ("host_key", "client key"):  # a space, because a home may have one
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        shutil.copy(folder / "client key.pub", folder / "authorized_keys")
        kind, key, *_ = (folder / "host_key.pub").read_text().split()
        (folder / "known hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        (folder / "config").write_text(CONFIG.format(port=self.port, folder=folder, more=more))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd as root locks itself in
        sshd = sshd_path()
        assert sshd is not None
        self._log = open(folder / "log", "wb")  # noqa: SIM115  (closed by close)
        self._process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=self._log)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((folder / "log").read_text())

    def device(self, **more: object) -> Device:
        """The user's own account behind this sshd, with the packages of the interpreter that runs the tests."""
        values = {
            "name": "far",
            "label": "Far CPU",
            "kind": "cpu",
            "runner": "ssh",
            "host": "127.0.0.1",
            "port": self.port,
            "identity": str(self.folder / "client key"),
            "known_hosts": str(self.folder / "known hosts"),
            "folder": str(self.folder / "there"),
            "python": sys.executable,
            "venv": False,
        }
        return check(Device, {**values, **more}, "far")

    def is_measuring(self) -> bool:
        """Whether the device's end of a measurement behind this server is there."""
        lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        there = str(self.folder / "there")
        return any("ttsopt_lib.measure.remote.device_side" in line and there in line for line in lines)

    def cut(self) -> None:
        """End every connection at once, as a pulled cable would; new ones are still accepted."""
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # a connection that has just ended by itself
                if child.name().startswith("sshd"):
                    child.kill()

    def close(self) -> None:
        if self._process.poll() is None:
            self.cut()
        self._process.kill()
        self._process.wait()
        self._log.close()
