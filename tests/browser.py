"""Headless Chromium, driven by Playwright: ``apt-get install chromium``, or set CHROMIUM."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SHOTS = Path(__file__).parents[1] / "out" / "screenshots"
"""Screenshots are kept here."""
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium: apt-get install chromium")


@contextlib.contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """Start a browser; the test is skipped where Playwright is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is missing: pip install playwright"
    )
    SHOTS.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])
        yield browser
        browser.close()
