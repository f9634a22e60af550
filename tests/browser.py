"""A real browser, where there is one: what a page is once it has been opened."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

__all__ = ["CHROMIUM", "document_of", "needs_browser"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: the page is not tried in a browser")
SWITCHES = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run --dump-dom"
).split()


def document_of(url: str, directory: Path, *switches: str) -> str:
    """Open `url` and give the document as it stands after its scripts, if any, have run."""
    with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as profile:
        command = [str(CHROMIUM), *SWITCHES, *switches, f"--user-data-dir={profile}", url]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=90).stdout
