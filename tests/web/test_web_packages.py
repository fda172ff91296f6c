"""npm packages: fetched once, checked, and a clear line where that fails."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from web_pages import files_of

from ttsopt_lib.web.packages import NpmPackage, WebError, package_files, registry


def tarball(**files: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A registry with one package, its address in NPM_CONFIG_REGISTRY, and an empty cache."""
    content = tarball(wanted=b"this", other=b"that")
    file = tmp_path / "registry/@some/thing/-/thing-1.0.0.tgz"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    integrity = f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"
    with files_of(tmp_path / "registry") as (address, handler):
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        yield NpmPackage("@some/thing", "1.0.0", integrity, {"wanted": "kept.js"}), handler


def test_a_package_is_fetched_once_and_only_what_is_needed_is_kept(shelf):
    package, handler = shelf
    folder = package_files(package)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("kept.js", b"this")]
    assert package_files(package) == folder and len(handler.asked) == 1


def test_another_content_than_the_tested_one_is_refused(shelf, tmp_path):
    package, _ = shelf
    other = NpmPackage(package.name, package.version, "sha512-other", package.files)
    with pytest.raises(WebError, match="is not the package that was tested"):
        package_files(other)
    assert list(tmp_path.glob("cache/ttsopt/npm/*")) == []


def test_without_a_network_the_line_says_what_to_do(shelf, monkeypatch):
    package, _ = shelf
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    with pytest.raises(WebError) as refused:
        package_files(package)
    line = str(refused.value)
    assert "\n" not in line and "NPM_CONFIG_REGISTRY" in line and str(Path("cache/ttsopt/npm")) in line


def test_a_cut_download_leaves_nothing(shelf, tmp_path):
    package, handler = shelf
    handler.cut = {".tgz"}
    with pytest.raises(WebError, match="thing-1.0.0.tgz: "):
        package_files(package)
    assert list(tmp_path.glob("cache/ttsopt/npm/*")) == []


def test_the_registry_has_an_address(monkeypatch):
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc")
    with pytest.raises(WebError, match="no address of a registry"):
        registry()
