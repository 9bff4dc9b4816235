"""yseg.view.state: what Neuroglancer is told."""

import json
from urllib.parse import unquote

import numpy as np
import pytest

from yseg.config import Domain
from yseg.view.shown import of_image
from yseg.view.state import state_of, url_of
from yseg.volumes.create import create_volume


def shown(folder, shape=(5, 64, 96), section_nm=50.0, **others):
    with create_volume(f"{folder}/a.n5", shape, np.uint8, 5.0, section_nm=section_nm, kind="image", start=(2, 0, 10)) as store:
        store[...] = np.random.default_rng(0).integers(50, 60, shape).astype(np.uint8)
    return of_image(Domain(image=f"{folder}/a.n5"), others)


def test_layers_are_in_the_order_of_the_volumes_with_colours_and_contrast(tmp_path):
    with create_volume(f"{tmp_path}/p.n5", (5, 64, 96), np.float32, 5.0, kind="probability") as store:
        store[...] = np.zeros((5, 64, 96), np.float32)
    labels = "phantom://target/labels?shape=5,64,96"
    layers = state_of(shown(tmp_path, labels=labels, segmentation=labels, probability=f"{tmp_path}/p.n5", instances=labels),
                      "http://127.0.0.1:1/v/w/volumes")["layers"]
    assert [(layer["name"], layer["type"]) for layer in layers] == [
        ("image", "image"), ("truth", "segmentation"), ("prediction", "segmentation"), ("probability", "image"),
        ("instances", "segmentation")]
    assert layers[0]["source"] == "zarr3://http://127.0.0.1:1/v/w/volumes/image.zarr"
    low, high = layers[0]["shaderControls"]["normalized"]["range"]
    assert 50 <= low < high <= 59
    assert layers[3]["shaderControls"]["normalized"]["range"] == [0, 1]
    assert layers[2]["segmentColors"]["1"] != layers[3]["shaderControls"]["colour"]
    assert layers[1]["segmentDefaultColor"] != layers[2]["segmentDefaultColor"]
    assert not {"segmentColors", "segmentDefaultColor"} & set(layers[4])  # each object gets a colour of its own


@pytest.mark.parametrize(("shape", "section_nm", "layout"), [((5, 64, 96), 50.0, "4panel"), ((5, 64, 96), 5.0, "xy")])
def test_the_middle_of_the_image_is_seen_in_nm(tmp_path, shape, section_nm, layout):
    state = state_of(shown(tmp_path, shape, section_nm), "http://x")
    assert state["position"] == [10 + 47.5, 31.5, 2 + 2.0]
    assert {axis: unit for axis, (_, unit) in state["dimensions"].items()} == dict.fromkeys("xyz", "m")
    assert [size for size, _ in state["dimensions"].values()] == pytest.approx([5e-9, 5e-9, section_nm * 1e-9])
    assert state["layout"] == layout
    assert state["crossSectionScale"] == pytest.approx(64 / {"4panel": 350, "xy": 700}[layout], abs=0.04)


def test_the_url_holds_the_state(tmp_path):
    state = state_of(shown(tmp_path), "http://x")
    client, _, fragment = url_of(state, "http://127.0.0.1:1/v/w/").partition("#!")
    assert client == "http://127.0.0.1:1/v/w/"
    assert json.loads(unquote(fragment)) == state
    assert fragment.isascii()
    assert not set(fragment) & set(' "{}<>')
