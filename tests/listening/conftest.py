"""A listening test of short tones, and a browser to take it in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from tone_test import Made, make


@pytest.fixture
def made(tmp_path) -> Made:
    return make(tmp_path / "listening")


@pytest.fixture
def browser(tmp_path) -> Iterator:
    """Headless Chromium whose downloads go to tmp_path/downloads."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("Debian packages chromium and chromium-driver are needed: apt install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--mute-audio", "--disable-gpu"):
        options.add_argument(argument)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
