"""A server for a page's folder: on this machine, or for the devices of the local network.

It sends what makes a page isolated, so that WebAssembly may have threads, and takes the records of measurements. What
comes in is stored as it is, when it looks like a record; `ttsopt measure --import` checks all of it. It also says what
a voice is fed for a text, for the pages that cannot find that out.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTP_PORT
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import atomic_path
from ttsopt_lib.records.base import now
from ttsopt_lib.web.packages import WebError
from ttsopt_lib.web.records import is_page_record

MOST_BYTES = 4_000_000  # of a record
MOST_CHARACTERS = 5000  # of a text
MOST_RECORDS = 500  # in the folder: whoever reaches the server can fill no disk
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
Inputs = Callable[[str], list[dict[str, Any]]]  # what a voice is fed for a text, sentence by sentence

HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked for again, and sent again only when it has changed
}


class Server(ThreadingHTTPServer):
    """Serves a page's folder from entering to leaving.

    Attributes:
        address: to open in a browser.
        received: folder of the records that were sent back.
    """

    daemon_threads = True

    def __init__(
        self,
        folder: Path,
        lan: bool = False,
        port: int = 0,
        received: Path | None = None,
        study: str = "STUDY",
        inputs: Inputs | None = None,
    ):
        """
        Args:
            folder: of the page, as `write_web` made it.
            lan: for the local network, not for this machine alone.
            port: 0 for any that is free.
            received: folder for records; by default `records/received` beside the page's folder.
            study: what the command that takes a record is given, as it is typed in a shell: `params/joe.yaml`.
            inputs: what a voice is fed for a text, for a page that cannot make phonemes; it may raise `TtsoptError`.

        Raises:
            WebError: there is no page, no network, or the port is taken.
        """
        if not (folder / "index.html").is_file():
            raise WebError(f"{folder}: no page there; 'ttsopt web STUDY' writes it")
        self.folder, self.study, self.inputs = folder, study, inputs
        self.received = received or folder.parent / "records" / "received"
        self.at_work = threading.Lock()  # phonemizers do one thing at a time
        host = lan_host() if lan else "127.0.0.1"
        try:
            super().__init__((host, port), _PageHandler)
        except OSError as error:
            raise WebError(
                f"port {port} on {host}: {error.strerror}; --port takes another, 0 any that is free"
            ) from None
        self.address = f"http://{host}:{self.server_address[1]}/"
        self.hosts = hosts_of(host, self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def wait(self) -> None:
        """Wait until the server ends."""
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection is no news."""


def hosts_of(host: str, port: int) -> set[str]:
    """What browsers call a server that has this address; they leave out the port that HTTP has anyway."""
    names = {host, host.replace("127.0.0.1", "localhost")}
    return {f"{name}:{port}" for name in names} | (names if port == HTTP_PORT else set())


def lan_host() -> str:
    """This machine's address on the local network. Nothing is sent to find it. Raises `WebError` without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of nobody
            host = probe.getsockname()[0]
        except OSError:
            host = "127.0.0.1"
    if host.startswith(("127.", "0.")):
        raise WebError("this machine is in no local network; connect it, or leave --lan out")
    return host


class _PageHandler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ttsopt", ""
    timeout = 60
    server: Server
    etag: str | None = None
    extensions_map = {
        "": "application/octet-stream",
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json; charset=utf-8",
        ".txt": "text/plain; charset=utf-8",
        ".wasm": "application/wasm",
    }

    def __init__(self, request: Any, client_address: Any, server: Server):
        super().__init__(request, client_address, server, directory=str(server.folder))

    def do_GET(self) -> None:
        if not self._is_meant():
            self._say(HTTPStatus.MISDIRECTED_REQUEST, {"error": "this server has another address"})
        elif self.path.partition("?")[0] == "/web.json":
            served = {"records": "records"} | ({"inputs": "inputs"} if self.server.inputs else {})
            self._say(HTTPStatus.OK, {**self._about(), "served": served})
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self.close_connection = True  # what is refused need not be read
        refused = self._why_refused()
        if refused:
            self._say(HTTPStatus.BAD_REQUEST, {"error": refused})
            return
        content = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            said = json.loads(content)
        except (ValueError, RecursionError):
            said = None
        if self.path == "/inputs":
            self._say_inputs(said)
        elif not is_page_record(said):
            self._say(HTTPStatus.BAD_REQUEST, {"error": "this is no record of a measurement"})
        elif said.get("study") != (study := self._about()["study"]):
            self._say(HTTPStatus.BAD_REQUEST, {"error": f"this is a record of another study than {study}"})
        else:
            self._store(content)

    def send_head(self) -> Any:
        """A browser keeps a file only if it is this very one: another study's, served here before, has its name."""
        del self.headers["If-Modified-Since"]
        self.etag = self._tag()
        try:
            if self.etag is None or self.headers.get("If-None-Match") != self.etag:
                return super().send_head()
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.end_headers()
            return None
        finally:
            self.etag = None  # the connection may ask for more

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if self.etag:
            self.send_header("ETag", self.etag)
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""

    def _tag(self) -> str | None:
        """What tells the file that is asked for from every other; None where there is none."""
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return None
        file = path.stat()
        facts = f"{path} {file.st_ino} {file.st_size} {file.st_mtime_ns}"
        return f'"{hashlib.sha256(facts.encode()).hexdigest()[:32]}"'

    def _about(self) -> dict[str, Any]:
        return json.loads((self.server.folder / "web.json").read_text(encoding="utf-8"))

    def _is_meant(self) -> bool:
        """Whether the request is for this server, and not for a name that somebody lets point at this machine."""
        return self.headers.get("Host") in self.server.hosts

    def _why_refused(self) -> str | None:
        """What is wrong with a request before it is read; None: nothing. Pages of other servers can send none."""
        origin, length = self.headers.get("Origin"), self.headers.get("Content-Length", "")
        if self.path != "/records" and not (self.path == "/inputs" and self.server.inputs):
            return "records are sent to /records"
        if not self._is_meant() or (origin is not None and origin.removeprefix("http://") not in self.server.hosts):
            return "this server takes something from its own page alone"
        if self.headers.get_content_type() != "application/json":
            return "what is sent is JSON"
        if not length.isdecimal() or int(length) > MOST_BYTES:
            return f"what is sent has at most {MOST_BYTES // 10**6} MB"
        return None

    def _say_inputs(self, said: Any) -> None:
        text = said.get("text") if isinstance(said, dict) else None
        if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
            self._say(HTTPStatus.BAD_REQUEST, {"error": f"a text has at most {MOST_CHARACTERS} characters"})
            return
        assert self.server.inputs is not None
        try:
            with self.server.at_work:
                inputs = self.server.inputs(text)
        except TtsoptError as error:
            self._say(HTTPStatus.BAD_REQUEST, {"error": str(error)})
            return
        self._say(HTTPStatus.OK, {"inputs": inputs})

    def _store(self, content: bytes) -> None:
        folder = self.server.received
        with self.server.at_work:
            if folder.is_dir() and sum(1 for _ in folder.glob("*.json")) >= MOST_RECORDS:
                error = f"the server holds {MOST_RECORDS} records already: remove some, or save this one as a file"
                self._say(HTTPStatus.INSUFFICIENT_STORAGE, {"error": error})
                return
            name = f"{now().replace(':', '')}-{hashlib.sha256(content).hexdigest()[:8]}.json"
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(content)
        command = f"ttsopt measure {self.server.study} --import {shlex.quote(str(folder / name))}"
        self._say(HTTPStatus.CREATED, {"stored": name, "command": command})

    def _say(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        body = json.dumps(answer, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
