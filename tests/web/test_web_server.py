"""The page's server: what it sends, which records it takes, and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from ttsopt_lib.cli.app import as_typed
from ttsopt_lib.voices.text import TextError
from ttsopt_lib.web.packages import WebError
from ttsopt_lib.web.serve import MOST_BYTES, MOST_RECORDS, Server, hosts_of

RECORD = {"format": "ttsopt browser record", "study": "heard"}


@pytest.fixture
def server(tmp_path):
    page = tmp_path / "heard" / "web"
    page.mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html>")
    (page / "page.js").write_text("1")
    (page / "web.json").write_text(json.dumps({"format": "ttsopt web page", "study": "heard"}))
    with Server(page, study="params/heard.yaml") as running:
        yield running


def request(server: Server, method: str, path: str, body: bytes = b"", **headers: str):
    host = server.address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, names)
    answer = connection.getresponse()
    return answer, answer.read()


def send(server: Server, record: object, **headers: str):
    body = record if isinstance(record, bytes) else json.dumps(record).encode()
    answer, said = request(server, "POST", "/records", body, **{"Content_Type": "application/json", **headers})
    return answer.status, json.loads(said)


def test_pages_are_isolated_and_scripts_are_scripts(server):
    answer, _ = request(server, "GET", "/")
    assert answer.status == 200
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    policy = answer.headers["Content-Security-Policy"]
    assert "'wasm-unsafe-eval'" in policy and "unsafe-inline" not in policy and "'unsafe-eval'" not in policy
    assert request(server, "GET", "/page.js")[0].headers["Content-Type"].startswith("text/javascript")


def test_the_page_learns_that_it_can_send_records(server):
    about = json.loads(request(server, "GET", "/web.json")[1])
    assert about["study"] == "heard" and about["served"] == {"records": "records"}


def test_a_file_of_another_study_is_never_taken_for_one_that_the_browser_has(server, tmp_path):
    first, _ = request(server, "GET", "/page.js")
    has: dict[str, Any] = {"If_None_Match": first.headers["ETag"], "If_Modified_Since": first.headers["Last-Modified"]}
    answer, said = request(server, "GET", "/page.js", **has)
    assert (answer.status, said, answer.headers["ETag"]) == (304, b"", first.headers["ETag"])
    another = tmp_path / "another" / "web"
    shutil.copytree(tmp_path / "heard" / "web", another)  # dates as they are
    (another / "page.js").write_text("2")
    os.utime(another / "page.js", (0, 0))
    with Server(another) as other:
        assert request(other, "GET", "/page.js", **has)[1] == b"2"
        del has["If_None_Match"]
        assert request(other, "GET", "/page.js", **has)[1] == b"2"


def test_a_record_is_stored_and_the_command_is_said(server):
    status, said = send(server, RECORD)
    (stored,) = server.received.glob("*.json")
    assert status == 201 and json.loads(stored.read_text()) == RECORD
    assert said == {"stored": stored.name, "command": f"ttsopt measure params/heard.yaml --import {stored}"}
    assert not list((server.received.parents[1] / "web").glob("*records*"))


def test_the_command_is_one_for_a_shell(server, tmp_path):
    study = as_typed(Path("my study.yaml"), Path("my voice.onnx"))
    with Server(server.folder, study=study, received=tmp_path / "a & b") as other:
        said = send(other, RECORD)[1]
    words = ["my study.yaml", "--voice", "my voice.onnx", "--import", str(tmp_path / "a & b" / said["stored"])]
    assert shlex.split(said["command"]) == ["ttsopt", "measure", *words]


@pytest.mark.parametrize(
    "record", [b"no JSON", b"[1]", b"[" * 100_000, {}, {"format": "another"}, {**RECORD, "study": "<b>other</b>"}]
)
def test_what_is_no_record_of_the_study_is_refused(server, record):
    status, said = send(server, record)
    assert status == 400 and said["error"] and not server.received.exists()


def test_other_pages_and_other_names_of_this_machine_are_refused(server):
    assert send(server, RECORD, Origin="http://evil.example")[0] == 400
    assert send(server, RECORD, Origin="null")[0] == 400
    assert send(server, RECORD, Host="evil.example")[0] == 400
    assert send(server, RECORD, Content_Type="text/plain")[0] == 400
    assert request(server, "GET", "/", Host="evil.example")[0].status == 421
    assert send(server, RECORD, Origin=server.address.rstrip("/"))[0] == 201


def test_browsers_leave_out_the_port_of_http():
    assert hosts_of("127.0.0.1", 80) == {"127.0.0.1", "127.0.0.1:80", "localhost", "localhost:80"}
    assert hosts_of("192.168.1.2", 8021) == {"192.168.1.2:8021"}


def test_a_record_that_is_too_long_is_not_read(server):
    assert send(server, RECORD, Content_Length=str(MOST_BYTES + 1))[0] == 400
    assert send(server, RECORD, Content_Length="-1")[0] == 400


def test_the_folder_of_records_has_an_end(server):
    server.received.mkdir(parents=True)
    for number in range(MOST_RECORDS):
        (server.received / f"{number}.json").touch()
    assert send(server, RECORD)[0] == 507


@pytest.mark.parametrize("path", ["/../secret", "/%2e%2e/secret", "//etc/passwd", "/voices/", "/nothing"])
def test_nothing_but_the_page_is_served(server, path, tmp_path):
    (tmp_path / "heard" / "secret").write_text("secret")
    (tmp_path / "heard" / "web" / "voices").mkdir()
    answer, said = request(server, "GET", path)
    assert answer.status == 404 and b"secret</" not in said


def test_a_folder_without_a_page_and_a_taken_port_are_said(server, tmp_path):
    with pytest.raises(WebError, match="'ttsopt web STUDY' writes it"):
        Server(tmp_path)
    port = int(server.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(WebError, match="--port takes another"):
        Server(tmp_path / "heard" / "web", port=port)


def test_a_text_has_an_end_and_faults_are_the_senders(server, tmp_path):
    def inputs(text: str) -> list[dict]:
        if text == "...":
            raise TextError("no phonemes")
        return [{"input": text}]

    def sent(body: object) -> tuple[int, dict]:
        headers = {"Content_Type": "application/json"}
        answer, said = request(speaking, "POST", "/inputs", json.dumps(body).encode(), **headers)
        return answer.status, json.loads(said)

    assert request(server, "POST", "/inputs", b"{}", Content_Type="application/json")[0].status == 400
    with Server(tmp_path / "heard" / "web", inputs=inputs) as speaking:
        assert json.loads(request(speaking, "GET", "/web.json")[1])["served"]["inputs"] == "inputs"
        assert sent({"text": "Yes."}) == (200, {"inputs": [{"input": "Yes."}]})
        assert sent({"text": "..."}) == (400, {"error": "no phonemes"})
        assert sent({"text": "a" * 5001})[0] == sent({"text": 1})[0] == sent([])[0] == 400
