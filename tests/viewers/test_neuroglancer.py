"""launch.view in a real Chromium: all layers are seen, in their colours and places, and nothing is fetched from elsewhere."""

import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import tiny
from PIL import Image

from yseg.config_json import to_json
from yseg.runs.resolve import resolve
from yseg.volumes.create import create_volume

ROOT = Path(__file__).parents[2]
SHAPE = (9, 200, 240)  # of the image
# Where each layer is seen: its first and last row and column in the image's voxels. What is not 0 there lies on the image.
PLACES = {"truth": (20, 60, 30, 80), "prediction": (20, 60, 140, 200), "probability": (120, 170, 30, 90),
          "instances": (120, 170, 140, 190)}
START = (2, 110, 130)  # of the instances, which are a part of the image


def write(path, values, kind, start=(0, 0, 0)):
    with create_volume(str(path), values.shape, values.dtype, 5.0, section_nm=10.0, kind=kind, start=start) as store:
        store[...] = values
    return str(path)


def in_place(name, value, dtype, shape=SHAPE, start=(0, 0, 0)):
    """A volume that has a value in the place of a layer."""
    values = np.zeros(shape, dtype)
    top, bottom, left, right = PLACES[name]
    values[:, top - start[1]:bottom - start[1], left - start[2]:right - start[2]] = value
    return values


@pytest.fixture
def volumes(tmp_path):
    """The flags of five volumes of five formats."""
    image = np.random.default_rng(0).integers(90, 110, SHAPE).astype(np.uint8)
    return {
        "image": write(tmp_path / "i.zarr", image, "image"),
        "labels": write(tmp_path / "t.tif", in_place("truth", 1, np.uint8), "classes"),
        "segmentation": write(tmp_path / "s.n5", in_place("prediction", 1, np.uint8), "classes"),
        "probability": write(tmp_path / "p.h5:p", in_place("probability", 1, np.float32), "probability"),
        "instances": write(tmp_path / "o.precomputed", in_place("instances", 2**50 + 1, np.uint64, (5, 90, 100), START), "labels",
                           START)}


class Viewed:
    """What a browser shows of launch.view with some flags.

    pixels: [y, x, colour], also in view.png of the folder; requests: URLs; errors: lines of the console; code: the program's.
    """

    def __init__(self, browser, folder, *flags):
        self._picture, self.requests, self._says = folder / "view.png", [], []
        command = [sys.executable, "-m", "launch.view", *flags, "--noopen"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                self._look(browser, process.stdout.readline().strip())
                process.send_signal(signal.SIGINT)
                self.code = process.wait(60)
            finally:
                process.kill()

    def _look(self, browser, url):
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self._says.append((message.type, message.text, message.location["url"])))
        page.on("pageerror", lambda error: self._says.append(("error", str(error), "")))
        page.goto(url)
        page.wait_for_function("() => window.viewer && window.viewer.isReady()", timeout=90_000, polling=500)
        page.wait_for_timeout(1000)
        page.screenshot(path=self._picture)
        self.pixels = np.asarray(Image.open(self._picture).convert("RGB")).astype(int)
        self.panel = page.locator(".neuroglancer-rendered-data-panel").first.bounding_box()
        self.scale = page.evaluate("() => window.viewer.state.toJSON().crossSectionScale ?? 1")
        self.errors = [text for kind, text, where in self._says if kind == "error" and not where.endswith("favicon.ico")]
        page.close()

    def seen(self, box):
        """The pixels [y, x, colour] of a box of the image's voxels: first and last row and column."""
        middle = self.panel["y"] + self.panel["height"] / 2, self.panel["x"] + self.panel["width"] / 2
        top, bottom, left, right = (round(middle[axis] + (value - SHAPE[1 + axis] / 2) / self.scale)
                                    for axis, value in zip((0, 0, 1, 1), box, strict=True))
        return self.pixels[top:bottom, left:right]


def is_green(pixels):
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return (green > red + 25) & (green > blue + 15)


def is_red(pixels):
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return (red > green + 25) & (red > blue + 15) & (green < blue + 25)


def is_orange(pixels):
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return (red > green + 25) & (green > blue + 25)


def is_coloured(pixels):
    return pixels.max(-1) - pixels.min(-1) > 25


LOOKS = {"truth": is_green, "prediction": is_red, "probability": is_orange, "instances": is_coloured}


@pytest.mark.slow
def test_every_layer_is_seen_in_its_colour_and_in_its_place(browser, volumes, tmp_path):
    view = Viewed(browser, tmp_path, *(f"--{flag}={spec}" for flag, spec in volumes.items()))
    assert not view.errors
    assert {urlsplit(url).hostname for url in view.requests if not url.startswith(("blob:", "data:"))} == {"127.0.0.1"}
    assert view.code == 130
    grey = view.seen((70, 110, 20, 220))
    assert not is_coloured(grey).sum() > 0.02 * grey[..., 0].size  # but the lines of the axes
    assert np.percentile(grey, 2) < 60
    assert np.percentile(grey, 98) > 190  # the contrast is stretched
    for name, look in LOOKS.items():
        top, bottom, left, right = PLACES[name]
        assert look(view.seen((top + 1, bottom - 1, left + 1, right - 1))).mean() > 0.9, name
        for around in ((top - 6, top - 1, left, right), (bottom + 1, bottom + 6, left, right), (top, bottom, left - 6, left - 1),
                       (top, bottom, right + 1, right + 6)):
            assert is_coloured(view.seen(around)).mean() < 0.1, (name, around)


@pytest.mark.slow
def test_of_a_run_the_target_and_its_truth_are_seen(browser, tmp_path, volumes):
    target = tiny.domain("target", image=volumes["image"], labels=volumes["labels"], pixel_size_nm=5.0, test_fraction=0.3)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(to_json(resolve(tiny.experiment(target=target))))
    view = Viewed(browser, tmp_path, f"--workdir={tmp_path / 'run'}", f"--segmentation={volumes['segmentation']}")
    assert not view.errors
    for name in ("truth", "prediction"):
        top, bottom, left, right = PLACES[name]
        assert LOOKS[name](view.seen((top + 1, bottom - 1, left + 1, right - 1))).mean() > 0.9
