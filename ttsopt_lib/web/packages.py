"""npm packages that the page needs: each is fetched once into the user's cache, and is what its hash says.

npm itself is not needed. Only the files that the page uses are taken out of a package.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ttsopt_lib.errors import TtsoptError
from ttsopt_lib.files import atomic_folder
from ttsopt_lib.paths import user_cache

REGISTRY = "https://registry.npmjs.org/"
LARGEST = 100_000_000  # bytes of a package
WAIT_SECONDS = 60  # for the next bytes


class WebError(TtsoptError, RuntimeError):
    """The page cannot be written or served. The message says what to do."""


@dataclass(frozen=True)
class NpmPackage:
    """One version of a package.

    Attributes:
        name: on the registry.
        version: of the package.
        integrity: SHA-512 of its tarball, as npm writes it.
        files: a file in the package -> its name in the page's folder.
    """

    name: str
    version: str
    integrity: str
    files: Mapping[str, str]


# The endings are .js, because not every server of files knows that .mjs is a script.
ONNXRUNTIME_WEB = NpmPackage(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    {
        "dist/ort.wasm.bundle.min.mjs": "onnxruntime.js",
        "dist/ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
    },
)
ESPEAK = NpmPackage(
    "@diffusionstudio/piper-wasm",
    "1.0.0",
    "sha512-4Hgh7wJ1PuGEVgVi1CpducESnyXwjFRJN4zXjYRpxgquM+Zh6Eqq8ZaiGpCKm4yXvT1Y2SPQXbv0dEckFD9NaQ==",
    {
        "build/piper_phonemize.js": "espeak.js",
        "build/piper_phonemize.wasm": "espeak.wasm",
    },
)


def package_files(package: NpmPackage) -> Path:
    """The folder with a package's files, under the names that they have in the page's folder.

    Raises:
        WebError: it is not in the cache and cannot be fetched, or is not what its hash says.
    """
    cache = user_cache() / "npm"
    folder = cache / f"{package.name.replace('/', '+')}-{package.version}"
    if all((folder / name).is_file() for name in package.files.values()):
        return folder
    content = _fetch(package, cache)
    try:
        with atomic_folder(folder) as temporary, tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            for inside, name in package.files.items():
                file = tar.extractfile(f"package/{inside}")
                assert file is not None, f"{package.name}: {inside} is no file"
                (temporary / name).write_bytes(file.read())
    except OSError as error:
        raise WebError(f"{folder}: cannot be written ({error.strerror}); XDG_CACHE_HOME names another place") from None
    return folder


def registry() -> str:
    """The registry's address, with a slash at its end: of `NPM_CONFIG_REGISTRY`, else of npm's own settings."""
    named = os.environ.get("NPM_CONFIG_REGISTRY") or _registry_of_npm()
    if urllib.parse.urlsplit(named).scheme not in ("http", "https"):
        raise WebError(f"NPM_CONFIG_REGISTRY: {named!r} is no address of a registry; one begins with https://")
    return named.rstrip("/") + "/"


def _registry_of_npm() -> str:
    npm = shutil.which("npm")
    if npm is None:
        return REGISTRY
    try:
        done = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return REGISTRY
    said = done.stdout.strip()
    return said if done.returncode == 0 and said.startswith("http") else REGISTRY


def _fetch(package: NpmPackage, cache: Path) -> bytes:
    """A package's tarball, checked."""
    file = f"{package.name.rpartition('/')[2]}-{package.version}.tgz"
    address = f"{registry()}{package.name}/-/{file}"
    try:
        with urllib.request.urlopen(address, timeout=WAIT_SECONDS) as answer:
            content = answer.read(LARGEST + 1)
    except (OSError, urllib.error.URLError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise WebError(
            f"{address}: cannot be fetched ({reason}); connect this machine once, name a registry that it reaches in "
            f"NPM_CONFIG_REGISTRY, or copy {cache} from a machine that has it"
        ) from None
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if f"sha512-{found}" != package.integrity:
        raise WebError(
            f"{address}: is not the package that was tested (its SHA-512 differs); name another registry in "
            "NPM_CONFIG_REGISTRY"
        )
    return content
