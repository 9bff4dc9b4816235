"""A browser for the tests of this folder."""

import shutil

import pytest
from viewing import needs

FLAGS = ("--headless=new", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")  # WebGL without a GPU, and no network


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, driven by Playwright."""
    needs(["chromium"], ["playwright", "neuroglancer"])
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        yield started
        started.close()
