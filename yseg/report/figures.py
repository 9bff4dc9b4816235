"""Figures: training curves, panels of patches, a segmented section. PNG files, each written whole or not at all.

The colours are those of Okabe and Ito (2008), which people with any colour vision tell apart.
"""

import io
import math
import numbers
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from scipy import ndimage

from yseg.files import whole_file
from yseg.report.tables import readable

PathLike = str | os.PathLike[str]
Panel = tuple[str, ArrayLike, ArrayLike | None, ArrayLike]  # name, image, truth, prediction: a row of `panels`

BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, YELLOW = (
    "#000000", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
CURVES = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, BLACK)
CLASSES = (ORANGE, SKY, GREEN, YELLOW, VERMILLION, BLUE, PURPLE)  # of class 1, 2, ...; repeated beyond
TRUTH, PREDICTION = SKY, ORANGE
CORRECT, MISSED, FALSE_ALARM, WRONG_CLASS = GREEN, SKY, VERMILLION, PURPLE
NO_LABEL, GREY = "no label", "#808080"  # what is striped
KINDS = ("loss", "score", "gradient", "learning rate", "speed")  # of curves, in the order of their panels
FILL = 0.35  # opacity of an overlay inside its outline
DPI = 150
SECTION_INCHES = 9.0  # long side of a segmented section
HISTOGRAM_DECADES = 1.0  # at least, that a histogram of volumes spans
PATCH_INCHES = 2.4  # side of a patch in the panels


def loss_curves(metrics: Sequence[Mapping[str, Any]], path: PathLike) -> Path:
    """Draw training curves against the step, one panel for each kind of number (see KINDS).

    Args:
      metrics: rows of metrics.jsonl: dicts with "step" and numbers. None, NaN and absent values are passed over.
      path: of the PNG; its folder is made if need be.

    Returns:
      The path.
    """
    return write_figure(_curves_figure({"": metrics}), path)


def curves_svg(runs: Mapping[str, Sequence[Mapping[str, Any]]], kinds: Sequence[str] = KINDS) -> bytes:
    """Training curves as SVG: all that is in the rows of one run, see `loss_curves`, or of several the loss and the scores.

    Args:
      runs: from a name to rows of metrics.jsonl; the name of the only one is not shown.
      kinds: of the panels, some of KINDS.
    """
    if len(runs) == 1:
        runs = {"": next(iter(runs.values()))}
    figure = _curves_figure(runs, kinds)
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _curves_figure(runs: Mapping[str, Sequence[Mapping[str, Any]]], shown: Sequence[str] = KINDS) -> Figure:
    """Curves of runs by their names, a panel for each kind of number."""
    kinds: dict[str, dict[str, np.ndarray]] = {}
    for run, metrics in runs.items():
        for name in dict.fromkeys(name for row in metrics for name in row if name != "step"):
            points = [(row["step"], row[name]) for row in metrics if _is_finite_number(row.get(name))]
            if points and _kind(name) in shown and (not run or name == "loss" or _kind(name) == "score"):
                kinds.setdefault(_kind(name), {})[f"{run}, {name}" if run else name] = np.array(points, float)
    losses = kinds.get("loss", {})
    for name in [name for name, points in losses.items() if len(losses) > 1 and not points[:, 1].any()]:
        del losses[name]  # 0 throughout: a loss that the method does not have
    count = max(1, len(kinds))
    figure = Figure(figsize=(8, 0.6 + 2.6 * count), layout="constrained")
    panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for axes, kind in zip(panels, sorted(kinds, key=KINDS.index), strict=False):
        _draw_curves(axes, kinds[kind])
        values = np.concatenate([points[:, 1] for points in kinds[kind].values()])
        if kind == "loss" and (values > 0).all():
            axes.set_yscale("log")
        if kind == "score":
            axes.set_ylim(min(0, values.min()), max(1, values.max()))
        axes.set_ylabel(kind)
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=(1, 2, 5, 10)))
    return figure


def panels(rows: Sequence[Panel], path: PathLike, title: str, pixel_size_nm: float) -> Path:
    """Draw patches, one a row: the image, the truth on it, the prediction on it.

    Args:
      rows: a list of (name, image, truth, prediction). The image is real [y, x]. The truth is int [y, x], -1 = no label, or None.
        The prediction is int [y, x], or the foreground probability, float [y, x]: it sets the opacity and is outlined at 0.5.
      path: of the PNG; its folder is made if need be.
      title: over the whole figure.
      pixel_size_nm: size of a pixel in y and x.

    Returns:
      The path.
    """
    classes = max((int(np.max(labels)) for row in rows for labels in row[2:] if labels is not None), default=1)
    figure = Figure(figsize=(3 * PATCH_INCHES + 0.5, len(rows) * (PATCH_INCHES + 0.1) + 0.8), layout="constrained")
    figure.suptitle(filled(title, figure), fontweight="bold")
    grid = figure.subplots(len(rows), 3, squeeze=False)
    for axes, heading in zip(grid[0], ("image", "truth", "prediction"), strict=True):
        axes.set_title(heading)
    for (image_axes, truth_axes, prediction_axes), (name, image, truth, prediction) in zip(grid, rows, strict=True):
        grey = grey_image(image)
        show_image(image_axes, grey)
        draw_scale_bar(image_axes, grey, pixel_size_nm)
        image_axes.set_ylabel(textwrap.fill(name, 28))
        if truth is None:
            show_image(truth_axes, np.full_like(grey, 0.9))
            truth_axes.text(0.5, 0.5, "no labels", ha="center", va="center", transform=truth_axes.transAxes)
        else:
            show_image(truth_axes, paint_labels(grey, truth, CLASSES if classes > 1 else (TRUTH,)))
        show_image(prediction_axes, paint_labels(grey, prediction, CLASSES if classes > 1 else (PREDICTION,)))
    if classes > 1:
        draw_legend(figure, {f"class {index}": _class_colour(CLASSES, index) for index in range(1, classes + 1)})
    return write_figure(figure, path)


def overlay(image: ArrayLike, labels: ArrayLike, path: PathLike, *, title: str, pixel_size_nm: float,
            truth: ArrayLike | None = None) -> Path:
    """Draw one section with its segmentation, and with what is right and wrong in it if the truth is given.

    Args:
      image: real [y, x].
      labels: int [y, x], the predicted classes; 0 = background.
      path: of the PNG; its folder is made if need be.
      title: over the section.
      pixel_size_nm: size of a pixel in y and x.
      truth: int [y, x], the true classes, -1 = no label; or None.

    Returns:
      The path.
    """
    rgb, legend = _judged(grey_image(image), labels, truth)
    return _draw_sections({"": rgb}, legend, path, title, pixel_size_nm)


def side_by_side(image: ArrayLike, truth: ArrayLike, segmentations: Mapping[str, ArrayLike], path: PathLike, *, title: str,
                 pixel_size_nm: float) -> Path:
    """Draw one section, and beside it what is right and wrong in several segmentations of it.

    Args:
      image: real [y, x].
      truth: int [y, x], the true classes, -1 = no label.
      segmentations: from a heading to the predicted classes, int [y, x].
      path: of the PNG; its folder is made if need be.
      title: over the whole figure.
      pixel_size_nm: size of a pixel in y and x.

    Returns:
      The path.
    """
    grey, legend = grey_image(image), {}
    panels_of = {"image": grey}
    for heading, labels in segmentations.items():
        panels_of[heading], colours = _judged(grey, labels, truth)
        legend.update(colours)
    return _draw_sections(panels_of, legend, path, title, pixel_size_nm)


def volume_histogram(volumes: ArrayLike, path: PathLike, *, title: str, unit: str) -> Path:
    """Draw how many objects have which volume, on a logarithmic axis, with the median.

    Args:
      volumes: real [object], above 0.
      path: of the PNG; its folder is made if need be.
      title: over the figure.
      unit: of the volumes.

    Returns:
      The path.
    """
    volumes = np.asarray(volumes, float)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    figure.suptitle(filled(title, figure), fontweight="bold")
    axes = figure.subplots()
    if len(volumes):
        low, high = np.log10(volumes.min()), np.log10(volumes.max())
        room = max(0.0, (HISTOGRAM_DECADES - (high - low)) / 2)  # few or equal volumes are no wall of bars
        bins = np.logspace(low - room, high + room, 1 + int(np.clip(2 * math.sqrt(len(volumes)), 12, 60)))
        axes.hist(volumes, bins.tolist(), color=BLUE, edgecolor="white", linewidth=0.5,
                  label=f"{len(volumes)} objects")
        axes.axvline(float(np.median(volumes)), color=VERMILLION, linestyle="--", label=f"median {np.median(volumes):.3g} {unit}")
        axes.set_xscale("log")
        axes.legend(frameon=False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=f"volume, {unit}", ylabel="objects")
    axes.spines[["top", "right"]].set_visible(False)
    return write_figure(figure, path)


def _draw_sections(panels_of: Mapping[str, np.ndarray], legend: Mapping[str, str], path: PathLike, title: str,
                   pixel_size_nm: float) -> Path:
    """Draw painted sections of one shape, [y, x, 3] by their headings, side by side."""
    height, width = next(iter(panels_of.values())).shape[:2]
    inches = SECTION_INCHES / max(height, len(panels_of) * width)
    figure = Figure(figsize=(max(4.0, len(panels_of) * (width * inches + 0.1)), height * inches + 1.2), layout="constrained")
    figure.suptitle(filled(title, figure))
    for axes, (heading, rgb) in zip(figure.subplots(1, len(panels_of), squeeze=False)[0], panels_of.items(), strict=True):
        axes.set_title(heading, fontsize=10)
        show_image(axes, rgb)
        draw_scale_bar(axes, rgb, pixel_size_nm)
    draw_legend(figure, legend)
    return write_figure(figure, path)


def _judged(rgb: np.ndarray, labels: ArrayLike, truth: ArrayLike | None) -> tuple[np.ndarray, dict[str, str]]:
    """An image [y, x, 3] with its segmentation on it, right and wrong in it told apart if the truth is given; and the legend."""
    parts = judged_parts(labels, truth)
    for name, (mask, colour) in parts.items():
        rgb = _stripe(rgb, mask) if name == NO_LABEL else _paint(rgb, mask, colour)
    return rgb, {name: colour for name, (_, colour) in parts.items()}


def judged_parts(labels: ArrayLike, truth: ArrayLike | None) -> dict[str, tuple[np.ndarray, str]]:
    """The parts of a segmentation that are told apart, by name: (bool [y, x], colour).

    Args:
      labels: int [y, x], the predicted classes; 0 = background.
      truth: int [y, x], the true classes, -1 = no label; or None: then the parts are the classes.
    """
    labels = np.asarray(labels).astype(int)
    classes = int(np.max(labels, initial=0))
    if truth is None and classes > 1:
        return {f"class {index}": (labels == index, _class_colour(CLASSES, index)) for index in range(1, classes + 1)}
    if truth is None:
        return {"foreground": (labels > 0, PREDICTION)}
    truth = np.asarray(truth)
    labelled, predicted, true = truth >= 0, labels > 0, truth > 0
    parts = {
        "correct": (true & (labels == truth), CORRECT),
        "missed": (true & ~predicted, MISSED),
        "false alarm": (labelled & predicted & ~true, FALSE_ALARM),
    }
    if max(classes, int(np.max(truth))) > 1:
        parts["wrong class"] = (true & predicted & (labels != truth), WRONG_CLASS)
    if not labelled.all():
        parts[NO_LABEL] = (~labelled, GREY)
    return parts


def _is_finite_number(value: object) -> TypeGuard[float]:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _kind(name: str) -> str:
    """Which panel a number of metrics.jsonl belongs to."""
    if any(word in name for word in ("iou", "precision", "recall", "f1", "accuracy")):
        return "score"
    if "per_second" in name:
        return "speed"
    if "gradient" in name:
        return "gradient"
    return "learning rate" if "learning_rate" in name else "loss"


def _draw_curves(axes: Axes, curves: Mapping[str, np.ndarray]) -> None:
    for index, (name, points) in enumerate(curves.items()):
        axes.plot(*points.T, color=CURVES[index % len(CURVES)], linestyle=("-", "--", ":")[index // len(CURVES) % 3],
                  marker="o" if len(points) <= 50 else "", markersize=3.5, label=readable(name),
                  linewidth=3.5 if name == "loss" else 1.5)  # seen behind a term that makes up the whole of it
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False)


def grey_image(image: ArrayLike) -> np.ndarray:
    """The image as RGB in [0, 1]; the darkest and the brightest hundredth of its pixels saturate."""
    image = np.asarray(image, float)
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / (high - low), 0, 1) if high > low else np.full_like(image, 0.5)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _class_colour(colours: Sequence[str], index: int) -> str:
    return colours[(index - 1) % len(colours)]


def paint_labels(rgb: np.ndarray, labels: ArrayLike, colours: Sequence[str]) -> np.ndarray:
    """An image with its labels on it, every class in its colour; pixels without a label are striped.

    Args:
      rgb: [y, x, 3] in [0, 1], see `grey_image`.
      labels: int [y, x], -1 = no label; or the probability of one class, float [y, x].
      colours: of class 1, 2, ...; repeated beyond.

    Returns:
      [y, x, 3] in [0, 1].
    """
    labels = np.asarray(labels)
    if np.issubdtype(labels.dtype, np.floating):
        return _paint(rgb, labels >= 0.5, colours[0], FILL * np.clip(labels, 0, 1))
    labels = labels.astype(int)
    for index in range(1, np.max(labels, initial=0) + 1):
        rgb = _paint(rgb, labels == index, _class_colour(colours, index))
    return _stripe(rgb, labels < 0)


def _paint(rgb: np.ndarray, mask: np.ndarray, colour: str, opacity: np.ndarray | None = None) -> np.ndarray:
    """Colour a mask: its inside lightly (or everything by `opacity` [y, x]), its outline fully."""
    thickness = math.ceil(max(mask.shape) / 1000)  # in pixels; still seen where a large section is drawn smaller
    outline = mask & ~ndimage.binary_erosion(mask, iterations=thickness, border_value=1)
    cover = np.where(outline, 1.0, FILL * mask if opacity is None else opacity)[:, :, None]
    return (1 - cover) * rgb + cover * np.array(to_rgb(colour))


def _stripe(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Grey diagonal stripes over a mask."""
    y, x = np.indices(mask.shape)
    period = max(8, math.ceil(max(mask.shape) / 24))
    shade = np.where((y + x) % period < period / 2, 0.45, 0.6)[:, :, None]
    return np.where(mask[:, :, None], 0.3 * rgb + 0.7 * shade, rgb)


def show_image(axes: Axes, rgb: np.ndarray) -> None:
    """An RGB image without ticks and frame."""
    axes.imshow(np.clip(rgb, 0, 1))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_scale_bar(axes: Axes, rgb: np.ndarray, pixel_size_nm: float) -> None:
    """A bar of 1, 2 or 5 times a power of ten nm, at most a third of the width, at the lower right."""
    height, width = rgb.shape[:2]
    length, text = scale_bar(width * pixel_size_nm)
    margin = 0.05 * min(height, width)
    stop, y = width - 1 - margin, height - 1 - margin
    start = stop - length / pixel_size_nm
    axes.plot((start, stop), (y, y), color="white", linewidth=3, solid_capstyle="butt",
              path_effects=[patheffects.Stroke(linewidth=4.5, foreground="black", capstyle="projecting"), patheffects.Normal()])
    axes.annotate(text, ((start + stop) / 2, y), (0, 4),
                  textcoords="offset points", ha="center", va="bottom", color="white", fontsize=9,
                  path_effects=[patheffects.withStroke(linewidth=2, foreground="black")])


def scale_bar(width_nm: float) -> tuple[float, str]:
    """The length in nm, and the text, of a bar for a picture of that width."""
    longest = width_nm / 3
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))
    return length, f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"


def filled(title: str, figure: Figure) -> str:
    """A title in lines that the figure is wide enough for."""
    return textwrap.fill(title, int(9 * figure.get_figwidth()))  # letters to an inch


def draw_legend(figure: Figure, colours: Mapping[str, str]) -> None:
    """A legend below the figure: dict from a name to its colour."""
    handles = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    columns = max(1, int(figure.get_figwidth() / 1.6))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), columns), frameon=False)


def write_figure(figure: Figure, path: PathLike) -> Path:
    """Write the figure as PNG, whole or not at all; its folder is made if need be. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=DPI)
    return path
