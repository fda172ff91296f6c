"""The command `ttsopt web`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner
from web_pages import folder_of, study_with

from ttsopt_lib.cli import app
from ttsopt_lib.web import serve


@pytest.fixture
def study(plain_voice, tmp_path, monkeypatch) -> Path:
    """The file of a study whose variants are made, in a project folder of its own, which is the working directory."""
    asked = study_with("small", "other")
    folder_of(asked, plain_voice, tmp_path / "reports")
    values = json.loads(asked.model_dump_json(exclude_unset=True))
    (tmp_path / "heard.yaml").write_text(yaml.safe_dump({"study": values}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return Path("heard.yaml")


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["web", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_page_is_written_with_the_voices_that_were_asked_for(study):
    said = run(study, "--variant", "small", "--without-original")
    assert "reports/heard/web" in said and " MB;" in said
    about = json.loads(Path("reports/heard/web/web.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in about["variants"]] == ["small"]
    run(study)
    about = json.loads(Path("reports/heard/web/web.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in about["variants"]] == ["original", "small", "other"]


def test_the_local_network_gets_an_address_and_a_code_after_a_word_about_that(study, monkeypatch):
    def interrupted(server: serve.Server) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, "lan_host", lambda: "127.0.0.1")
    monkeypatch.setattr(serve.Server, "wait", interrupted)
    said = run(study, "--lan", "--port", 0)
    warning, code, address = said.index("everybody in this network"), said.index("\u2588"), said.index("http://")
    assert warning < code < address and "records/received" in said and "ended" in said
