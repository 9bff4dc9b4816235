"""What people look at: progress on a terminal or in a log, tables, figures."""

from yseg.report.figures import loss_curves, overlay, panels, side_by_side, volume_histogram
from yseg.report.progress_bar import progress
from yseg.report.tables import csv_text, markdown_table, print_table

__all__ = ["csv_text", "loss_curves", "markdown_table", "overlay", "panels", "print_table", "progress",
           "side_by_side", "volume_histogram"]
