"""What an application of a trained network leaves in the folder of its run: a line of history, sections, the report."""

import datetime
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from yseg.data.box import Box
from yseg.data.domain import Volume, absolute_path
from yseg.runs.history import EVALUATED, record
from yseg.runs.report_file import refresh_report
from yseg.runs.views import write_views
from yseg.trained.network import TrainedNetwork


def report_views(network: TrainedNetwork, what: str, volume: Volume, classes: Mapping[Box, np.ndarray], *,
                 told: Mapping[str, Any]) -> None:
    """Write down what was evaluated or segmented, and the report of the run anew; nothing of a network without `reports`.

    Args:
      network: as it was applied.
      what: EVALUATED or SEGMENTED, see `yseg.runs.history`.
      volume: opened; of an evaluation with its labels.
      classes: what is predicted in each of `yseg.runs.views.views_of` the region, uint8 [1, y, x], by its box.
      told: image, region, threshold and what else JSON can hold; paths of outputs, by their kind, become absolute.

    Raises:
      OSError: the folder cannot be written to.
    """
    if network.reports is None:
        return
    told = {**told, "outputs": {kind: spec if "://" in spec else absolute_path(spec)
                                for kind, spec in told.get("outputs", {}).items()}}
    told |= {"step": network.step, "method": network.provenance.get("method"), "batch_statistics": network.statistics}
    record(network.reports, what, **told)
    name = f"{told['method']}, step {network.step}, {network.statistics} statistics of batch normalisation"
    told |= {"network": name, "pixel_size_nm": volume.pixel_size_nm, "date": datetime.date.today().isoformat()}
    try:
        write_views(network.reports, what, volume, classes, with_truth=what == EVALUATED, told=told)
    except (FileExistsError, FileNotFoundError) as error:  # another application of the run writes them, too
        print(f"{network.reports}: sections for its report were not written ({error.strerror})", file=sys.stderr, flush=True)
    refresh_report(network.reports)
