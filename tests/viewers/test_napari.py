"""The OME-Zarr that yseg writes, opened by napari through napari-ome-zarr under Xvfb: type, sizes and colours.

Where a part of a volume starts is not seen: the plugin (0.10) reads no translation of OME-Zarr 0.4 and 0.5.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from viewing import needs

from yseg.volumes.create import create_volume

SHAPE = (4, 120, 160)
SQUARE = (slice(None), slice(20, 80), slice(30, 110))


@pytest.fixture(scope="session")
def display():
    """An X server without a screen; its number."""
    needs(["Xvfb"], ["napari", "napari_ome_zarr", "PyQt6", "pyvirtualdisplay"])
    from pyvirtualdisplay import Display

    with Display(size=(1280, 1024), visible=False) as started:
        yield started.new_display_var


def opened(display, folder, values, kind, **options):
    """(layers, pixels [y, x, colour] of the window) of a volume that napari opens."""
    path, picture = folder / "of" / "em" / "a.zarr", folder / "napari.png"
    path.parent.mkdir(parents=True)  # of labels the plugin makes the folder two above them a group of Zarr
    with create_volume(str(path), values.shape, values.dtype, 5.0, section_nm=40.0, kind=kind, **options) as store:
        store[...] = values
    environment = {**os.environ, "DISPLAY": display, "QT_QPA_PLATFORM": "xcb", "LIBGL_ALWAYS_SOFTWARE": "1",
                   "NAPARI_CONFIG": str(folder / "settings.yaml"), "QT_API": "pyqt6"}
    environment.pop("WAYLAND_DISPLAY", None)
    done = subprocess.run([sys.executable, Path(__file__).with_name("look.py"), picture, path], env=environment, timeout=240,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), np.asarray(Image.open(picture).convert("RGB")).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["ome-zarr-0.5", "ome-zarr-0.4"])
def test_classes_are_labels_with_their_colours_and_sizes(display, tmp_path, format):
    values = np.zeros(SHAPE, np.uint8)
    values[SQUARE] = 1
    (layer,), pixels = opened(display, tmp_path, values, "classes", format=format)
    assert layer["type"] == "Labels"
    assert layer["shapes"] == [[4, 120, 160], [4, 60, 80], [4, 30, 40]]
    assert layer["scale"] == [40, 5, 5]
    assert np.round(layer["colour"], 3).tolist() == [0, 1, 1, 1]  # as the file says
    assert layer["units"] == ["nanometer"] * 3
    seen = (np.abs(pixels - [0, 0.7 * 255, 0.7 * 255]).max(-1) < 12).mean()  # at the opacity of labels, 0.7, on black
    assert 0.05 < seen < 0.6  # of the window


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "dtype"), [("image", np.uint8), ("probability", np.float32)])
def test_grey_levels_are_an_image_that_is_not_black(display, tmp_path, kind, dtype):
    values = np.zeros(SHAPE, dtype)
    values[SQUARE] = 200 if kind == "image" else 1
    (layer,), pixels = opened(display, tmp_path, values, kind)
    assert (layer["type"], layer["scale"], layer["units"]) == ("Image", [40, 5, 5], ["nanometer"] * 3)
    assert 0.05 < (pixels.min(-1) > 180).mean() < 0.6
