"""The picture of a first look: both volumes side by side, their grey levels, spectra, objects and sections."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import MaxNLocator

from yseg.report.figures import (
    BLUE,
    CLASSES,
    GREEN,
    TRUTH,
    VERMILLION,
    draw_scale_bar,
    filled,
    grey_image,
    paint_labels,
    show_image,
    write_figure,
)
from yseg.studies.look import BINS, Look

COLOURS = {"source": BLUE, "target": VERMILLION}
CROP = 480  # rows and columns of an example, at most, in working pixels: the same of both, so that sizes can be compared
NOTHING = "Nothing looks wrong."
WIDTH, IMAGES, CURVES, LINE = 13.0, 4.4, 2.6, 0.19  # inches: of the figure, heights of its rows and of a line of text
LETTERS = 195  # of a line of text


def first_look(looks: Sequence[Look], findings: Sequence[str], path: str | os.PathLike, title: str) -> Path:
    """Draw what was seen of one or two volumes, and say below what looks wrong.

    Args:
      looks: of the source, the target, or both.
      findings: lines; empty = nothing looks wrong.
      path: of the PNG; its folder is made if need be.
      title: over the whole figure.

    Returns:
      The path.
    """
    lines = [line for number, finding in enumerate(findings, 1)
             for line in textwrap.wrap(f"{number}. {finding}", LETTERS, subsequent_indent="    ")] or [NOTHING]
    text = LINE * (len(lines) + 1)
    figure = Figure(figsize=(WIDTH, IMAGES + 2 * CURVES + text + 0.6), layout="constrained")
    figure.suptitle(filled(title, figure), fontweight="bold")
    grid = figure.add_gridspec(4, 12, height_ratios=(IMAGES, CURVES, CURVES, text))
    _draw_examples(figure, grid, looks)
    for column, look in enumerate(looks):
        _draw_raw(figure.add_subplot(grid[1, 3 * column:3 * column + 3]), look)
    _draw_normalised(figure.add_subplot(grid[1, 6:9]), looks)
    _draw_spectra(figure.add_subplot(grid[1, 9:]), looks)
    _draw_objects(figure.add_subplot(grid[2, :4]), looks)
    along = [figure.add_subplot(grid[2, 4 + 4 * index:8 + 4 * index]) for index in range(2)]
    for axes, name in zip(along, ("means", "deviations"), strict=True):
        _draw_sections(axes, looks, name)
    below = figure.add_subplot(grid[3, :])
    below.set_axis_off()
    below.text(0, 1, "\n".join(lines), va="top", ha="left", fontsize=9, transform=below.transAxes,
               in_layout=False)  # its row is as high as it needs
    return write_figure(figure, path)


def _draw_examples(figure: Figure, grid: GridSpec, looks: Sequence[Look]) -> None:
    """Images of the same size, with labels beside that which has them."""
    side = min(CROP, *(size for look in looks for size in look.example[1].shape))
    shown = []
    for look in looks:
        number, image, classes = look.example
        rows, columns = (slice((size - side) // 2, (size - side) // 2 + side) for size in image.shape)
        grey = grey_image(image[rows, columns])
        shown.append((f"{look.name}, section {number}", grey, look))
        if classes is not None:
            colours = CLASSES if classes.max(initial=0) > 1 else (TRUTH,)
            shown.append((f"{look.name}, its labels", paint_labels(grey, classes[rows, columns], colours), look))
    width = 12 // len(shown)
    for index, (name, rgb, look) in enumerate(shown):
        axes = figure.add_subplot(grid[0, width * index:width * (index + 1)])
        show_image(axes, rgb)
        draw_scale_bar(axes, rgb, look.working_pixel_size_nm)
        axes.set_title(name, fontsize=10, color=COLOURS[look.name])


def _draw_raw(axes: Axes, look: Look) -> None:
    values = look.raw_values
    low, high = float(values.min()), float(values.max())
    whole = np.issubdtype(values.dtype, np.integer) and high - low < 256
    bins = np.arange(low, high + 2) - 0.5 if whole else np.linspace(low, high if high > low else low + 1, 128)
    axes.hist(values, bins.tolist(), color=COLOURS[look.name], histtype="stepfilled")
    axes.set(xlabel=f"grey level, {look.dtype}", yticks=[])
    axes.set_title(f"grey levels of the {look.name}", fontsize=10)


def _draw_normalised(axes: Axes, looks: Sequence[Look]) -> None:
    for look in looks:
        axes.stairs(look.normalised / max(look.normalised.sum(), 1), BINS, color=COLOURS[look.name], label=look.name)
    axes.set(xlabel="deviations from the mean", yticks=[])
    axes.set_title("grey levels as trained on", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_spectra(axes: Axes, looks: Sequence[Look]) -> None:
    for look in looks:
        frequencies, power = look.spectrum
        if (power > 0).any():
            axes.loglog(frequencies[power > 0], power[power > 0], color=COLOURS[look.name], label=look.name)
    axes.set(xlabel="cycles per working pixel", ylabel="power")
    axes.set_title("spectra", fontsize=10)
    axes.grid(alpha=0.3)


def _draw_objects(axes: Axes, looks: Sequence[Look]) -> None:
    axes.set_title("diameters of labelled objects, by area", fontsize=10)
    for look in looks:
        size = look.labels.size if look.labels else None
        if not look.labels or not size:
            continue
        found, width = look.labels.diameters, size * look.working_pixel_size_nm
        axes.axvspan(20, 60, color=GREEN, alpha=0.15, label="20 to 60 working pixels")
        axes.hist(found, np.linspace(0, max(80, found.max()), 41).tolist(), weights=found**2, color=COLOURS[look.name])
        axes.axvline(size, color="black", linestyle="--", label=f"typical: {size:.0f} pixels, {width:.0f} nm")
    if not axes.patches:
        axes.text(0.5, 0.5, "no labels", ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    axes.set(xlabel="working pixels", yticks=[])
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_sections(axes: Axes, looks: Sequence[Look], name: str) -> None:
    """Means or deviations along z, relative to the volume's own mean and deviation."""
    for look in looks:
        values = getattr(look.sections, name)
        relative = (values - look.mean) / (look.deviation or 1) if name == "means" else values / (look.deviation or 1)
        axes.plot(look.sections.numbers, relative, ".-", color=COLOURS[look.name], markersize=4, linewidth=1, label=look.name)
    least = (-1.0, 1.0) if name == "means" else (0.0, 2.0)
    low, high = axes.get_ylim()
    axes.set(xlabel="section", ylabel="deviations of the volume", ylim=(min(low, least[0]), max(high, least[1])))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{'mean' if name == 'means' else 'deviation'} of sections", fontsize=10)
    axes.grid(alpha=0.3)
