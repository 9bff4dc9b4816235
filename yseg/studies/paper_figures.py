"""The figures of the paper: fine-tuning curves, methods side by side, the shift by level."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from yseg.data.domain import open_own_domain
from yseg.report.figures import (
    CURVES,
    GREEN,
    PREDICTION,
    SECTION_INCHES,
    SKY,
    TRUTH,
    draw_legend,
    draw_scale_bar,
    filled,
    grey_image,
    paint_labels,
    show_image,
    write_figure,
)
from yseg.runs.samples import copying, middle_section
from yseg.studies.paper_table import NAMES, PLAIN, way
from yseg.trained.network import TrainedNetwork


def label_curves(curves: dict[str, list[tuple[float, list[float]]]], path: str | os.PathLike) -> Path:
    """Draw the test IoU against the share of target labels, a curve for each method, with the spread over seeds.

    Args:
      curves: dict from a method's name to a list of (share in [0, 1], [IoU of each seed]).
      path: of the PNG; its folder is made if need be.

    Returns:
      The path.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, (name, points) in enumerate(curves.items()):
        shares = [100 * share for share, _ in points]
        means = [np.mean(values) for _, values in points]
        spread = np.array([np.std(values, ddof=1) if len(values) > 1 else 0.0 for _, values in points])
        axes.errorbar(shares, means, spread, color=CURVES[index % len(CURVES)], marker="osD^v"[index % 5], capsize=3, label=name)
    axes.set(xlabel="labels of the target's training part, %", ylabel="test IoU")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return write_figure(figure, path)


def comparison(image: np.ndarray, truth: np.ndarray, columns: dict[str, dict[str, np.ndarray]], path: str | os.PathLike, *,
               title: str, pixel_size_nm: float) -> Path:
    """Draw a section's image and truth beside what several methods find in it.

    Args:
      image: real [y, x].
      truth: int [y, x], the true classes, -1 = no label.
      columns: dict from a heading to a dict from a row's name to the predicted classes, int [y, x]; the same rows in each.
      path: of the PNG; its folder is made if need be.
      title: over the whole figure.
      pixel_size_nm: size of a pixel in y and x.

    Returns:
      The path.
    """
    names = list(next(iter(columns.values())))
    height, width = np.shape(image)
    size = SECTION_INCHES / 2 / max(height, width)
    figure = Figure(figsize=((1 + len(columns)) * (width * size + 0.2) + 0.4, len(names) * (height * size + 0.4) + 1.0),
                    layout="constrained")
    figure.suptitle(filled(title, figure), fontweight="bold")
    grid, grey = figure.subplots(len(names), 1 + len(columns), squeeze=False), grey_image(image)
    for row, name in enumerate(names):
        axes = grid[row, 0]
        if row == 0:
            axes.set_title("image", fontsize=9)
            show_image(axes, grey)
            draw_scale_bar(axes, grey, pixel_size_nm)
        elif row == 1:
            axes.set_title("truth", fontsize=9)
            show_image(axes, paint_labels(grey, truth, (TRUTH,)))
        else:
            axes.set_axis_off()
        for axes, (heading, found) in zip(grid[row, 1:], columns.items(), strict=True):
            axes.set_title(f"{heading}\n{name}", fontsize=9)
            show_image(axes, paint_labels(grey, found[name], (PREDICTION,)))
    draw_legend(figure, {"truth": TRUTH, "prediction": PREDICTION})
    return write_figure(figure, path)


def shift_by_level(shifts: Sequence[Any], path: str | os.PathLike, title: str) -> Path:
    """Draw the activations of both domains at every level, and below them the shift that was measured there.

    Args:
      shifts: list of `yseg.studies.shift.Shift`.
      path: of the PNG; its folder is made if need be.
      title: over the whole figure.

    Returns:
      The path.
    """
    figure = Figure(figsize=(1.5 * len(shifts) + 1.5, 6.5), layout="constrained")
    figure.suptitle(filled(title, figure), fontweight="bold")
    grid = figure.add_gridspec(3, len(shifts), height_ratios=(1, 1, 1.6))
    for column, shift in enumerate(shifts):
        for row, (name, activations) in enumerate((("source", shift.source), ("target", shift.target))):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(activations, cmap="gray")
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(shift.level, fontsize=9)
            if column == 0:
                axes.set_ylabel(name)
    axes, places = figure.add_subplot(grid[2, :]), np.arange(len(shifts))
    axes.bar(places - 0.2, [shift.mmd for shift in shifts], 0.4, color=SKY, label="source and target")
    axes.bar(places + 0.2, [shift.floor for shift in shifts], 0.4, color=GREEN, label="source and source")
    axes.set(ylabel="squared MMD of the features", xlim=(-0.5, len(shifts) - 0.5))
    axes.set_xticks(places, [shift.level for shift in shifts])
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    return write_figure(figure, path)


def figure3(rows: Sequence[dict[str, Any]], path: str | os.PathLike) -> Path:
    """Figure 3 as PNG: test IoU against the share of target labels, a curve for each method; the share 0 is without fine-tuning.

    Args:
      rows: see `execute`.
      path: of the PNG.
    """
    curves: dict[str, Any] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        points: dict[float, list[float]] = {}
        for row in rows:
            if row["method"] == method and row["iou"] is not None and (
                    row["fraction"] is not None or way(row) == PLAIN):
                points.setdefault(row["fraction"] or 0.0, []).append(row["iou"])
        curves[NAMES[method]] = sorted(points.items())
    return label_curves(curves, path)


def figure4(runs: Sequence[Any], out: str | os.PathLike) -> Path:
    """Figure 4 as PNG: the middle section of the target's test box and what methods find in it, unsupervised and fine-tuned.

    Args:
      runs: see `plan`; those of the first seed are shown.
      out: the folder of the experiment.
    """
    out = Path(out)
    columns: dict[str, dict[str, np.ndarray]] = {}
    for run in (run for run in runs if run.seed == runs[0].seed):
        network = TrainedNetwork.of_run(out / "runs" / run.name)
        config = network.config
        target = open_own_domain(config, "target", with_labels=True)
        box = middle_section(target.split.test)
        found = np.zeros(box.shape, np.uint8)
        for _ in copying(network.predict(target, [box]), box, found, config.inference.threshold):
            pass
        name = f"{100 * run.fraction:g} % of the labels" if run.fraction else "unsupervised"
        columns.setdefault(NAMES[run.method], {})[name] = found[0]
    image = target.image[box.slices].read().result()[0]
    truth = target.classes(box)[0]
    title = f"Test part of the target, section {box.start[0]}, seed {runs[0].seed}"
    return comparison(image, truth, columns, out / "figure4.png", title=title, pixel_size_nm=target.pixel_size_nm)
