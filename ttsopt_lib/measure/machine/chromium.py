"""Is there a Chromium on this machine that can be driven? If not: what to install."""

from __future__ import annotations

import importlib.util
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVER = "chromedriver"
INSTALL = "apt install chromium chromium-driver"


def chromium() -> str | None:
    """The path of the browser."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def chromedriver() -> str | None:
    """The path of what drives the browser."""
    return shutil.which(DRIVER)


def why_no_browser() -> str | None:
    """Why no browser can be measured here, and what to do; None: nothing is missing."""
    if importlib.util.find_spec("selenium") is None:
        return "Selenium, which drives the browser, is not installed: pip install 'ttsopt[browser]'"
    if chromium() is None:
        return f"there is no Chromium on this machine: {INSTALL}"
    if chromedriver() is None:
        return f"there is no {DRIVER} on this machine, by which Chromium is driven: {INSTALL}"
    return None
