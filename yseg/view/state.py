"""What Neuroglancer is told to show: its state, as JSON in the part of a URL behind #.

The state's fields: https://neuroglancer-docs.web.app/json/api.
"""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from yseg.view.arrays import ENDING
from yseg.view.shown import Shown
from yseg.volumes.header import CLASSES, IMAGE, PROBABILITY

# The layout, and how many pixels of the screen the smaller of rows and columns about fills at first: of a volume that is thin, in
# which other planes show little, and of others.
_THIN, _DEEP = ("xy", 700), ("4panel", 350)
_THIN_SHARE = 0.25  # of its width, below which a volume is thin
_COLOURS = {"truth": "#00c853", "prediction": "#ff1744"}  # one on the other is between the two
_MORE_COLOURS = ("#2979ff", "#ffd600", "#d500f9", "#00e5ff")  # of the classes above 1
_PROBABILITY = "#ff9100"
_CLASSES = 2 + len(_MORE_COLOURS)  # whose colours are chosen
_GREY = "#uicontrol invlerp normalized\nvoid main() {\n  emitGrayscale(normalized());\n}\n"
_COLOURED = ("#uicontrol vec3 colour color\n#uicontrol invlerp normalized\n"
             "void main() {\n  emitRGBA(vec4(colour, normalized()));\n}\n")


def state_of(shown: Sequence[Shown], folder: str) -> dict[str, Any]:
    """The state that shows volumes: the middle of the first, an image, and all others on it.

    Args:
      shown: the layers, from the lowest to the highest.
      folder: the URL below which they are served, each as NAME.zarr.
    """
    image = shown[0]
    sizes = dict(zip("zyx", image.header.voxel_nm, strict=True))
    middle = [start + (size - 1) / 2 for start, size in zip(image.header.start, image.shape, strict=True)]
    depth, rows, columns = (size * nm for size, nm in zip(image.shape, image.header.voxel_nm, strict=True))
    layout, pixels = _THIN if depth < _THIN_SHARE * max(rows, columns) else _DEEP
    fitting = max(1 / 8, min(image.shape[1:]) / pixels)
    coarsest = 2 * image.levels.levels[-1].factors[1]  # further out a screen would need too many chunks
    layers = [_layer(layer, f"{folder}/{layer.name}{ENDING}") for layer in shown]
    return {
        "dimensions": {axis: [sizes[axis] * 1e-9, "m"] for axis in "xyz"},
        "position": middle[::-1],
        "crossSectionScale": min(fitting, coarsest) * image.header.pixel_size_nm / min(sizes.values()),
        "projectionScale": 1.5 * max(depth, rows, columns) / min(sizes.values()),
        "layers": layers,
        "selectedLayer": {"layer": image.name, "visible": False},
        "layout": layout,
    }


def url_of(state: dict[str, Any], client: str) -> str:
    """The URL that opens a state in the client that is served at another."""
    return f"{client}#!{quote(json.dumps(state, separators=(',', ':')), safe='')}"


def _layer(shown: Shown, url: str) -> dict[str, Any]:
    common = {"name": shown.name, "source": f"zarr3://{url}"}
    normalized = {"normalized": {"range": list(shown.values)}}
    if shown.header.kind == IMAGE:
        return common | {"type": "image", "opacity": 1, "shader": _GREY, "shaderControls": normalized}
    if shown.header.kind == PROBABILITY:
        return common | {"type": "image", "opacity": 0.5, "shader": _COLOURED,
                         "shaderControls": {"colour": _PROBABILITY} | normalized}
    chosen: dict[str, Any] = {"segmentDefaultColor": _COLOURS[shown.name]} if shown.name in _COLOURS else {}
    if shown.header.kind == CLASSES:
        colours = [_COLOURS.get(shown.name, _PROBABILITY), *_MORE_COLOURS]
        chosen["segmentColors"] = {str(value): colours[value - 1] for value in range(1, _CLASSES)}
    return {**common, "type": "segmentation", "selectedAlpha": 0.35, "segments": [], **chosen}
