"""A process of test_napari.py: look.py PICTURE PATH opens a path in napari, prints its layers as JSON, and takes a picture."""

import json
import sys

import napari
import numpy as np


def main():
    picture, path = sys.argv[1:]
    viewer = napari.Viewer(show=True, axis_labels=("z", "y", "x"))
    viewer.window.resize(1000, 800)
    layers = viewer.open(path, plugin="napari-ome-zarr")
    found = [{
        "type": type(layer).__name__, "name": layer.name, "scale": np.round(layer.scale, 6).tolist(),
        "units": [str(unit) for unit in layer.units],
        "shapes": [level.shape for level in layer.data] if layer.multiscale else [layer.data.shape],
        "colour": None if type(layer).__name__ != "Labels" else np.asarray(layer.get_color(1)).tolist()} for layer in layers]
    for layer in layers:
        layer.visible = True  # the plugin hides labels until somebody clicks on their eye
    viewer.screenshot(picture, canvas_only=False, flash=False)
    print(json.dumps(found), flush=True)
    viewer.close()


if __name__ == "__main__":
    main()
