"""A trained network, from the folder of a run or released as one of its own, and what is needed to apply it."""

import dataclasses
import math

import numpy as np

from yseg.config import STATISTICS, InputError
from yseg.data.domain import given_domain, image_statistics, open_domain
from yseg.data.labels import apply_rule
from yseg.inference.blocks import predict_blocks
from yseg.inference.predictor import make_predictor
from yseg.metrics.objects import object_scores
from yseg.models import build_network
from yseg.report import progress
from yseg.runs.folder import load_state, read_config
from yseg.trained.released import ReleasedModel
from yseg.training.state import inference_variables

OBJECT_NM = 100.0  # objects that are smaller than a square of this side in one section are no mitochondria


def config_of(run):
    """The Experiment of a run's folder, or of a `ReleasedModel`."""
    return run.config if isinstance(run, ReleasedModel) else read_config(run)


def with_augmentation(config, given):
    """The config with or without test-time augmentation; None = as it is."""
    if given is None:
        return config
    return dataclasses.replace(config, inference=dataclasses.replace(config.inference, test_time_augmentation=given))


def variables_of(run, config, statistics):
    """(variables of the segmentation network with these batch statistics, the training step that they are of)."""
    if isinstance(run, ReleasedModel):
        return run.variables, run.step
    state = load_state(run, config)
    return inference_variables(state, statistics), int(state.step)


def usual_statistics(config, domain):
    """Whose batch statistics a volume is segmented with: the training's for the source itself, else what the config says."""
    return "source" if domain.image == config.source.image != config.target.image else config.model.batch_statistics


def chosen_statistics(run, given, usual):
    """The batch statistics that were asked for, by default the usual ones; InputError if there are none such."""
    if given and isinstance(run, ReleasedModel):
        raise InputError(f"--batch_statistics={given}: must not be given with --model; they were chosen when it was exported")
    if (given or usual) not in STATISTICS:
        raise InputError(f"--batch_statistics={given}: must be one of {', '.join(STATISTICS)}")
    return given or usual


def open_to_score(config, image, labels, pixel_size_nm, foreground, domain):
    """The `yseg.config.Domain` to score, and its opened Volume."""
    working = config.sampling.working_pixel_size_nm
    if image:
        known = given_domain(config, image, labels, pixel_size_nm, foreground)
        if not known.labels:
            raise InputError(f"--labels is missing: must be the label volume of --image={image}")
        return known, open_domain(known, working, "-", with_labels=True)
    for name, value in (("labels", labels), ("pixel_size_nm", pixel_size_nm), ("foreground", foreground)):
        if value is not None:
            raise InputError(f"--{name}={value}: must come with --image")
    if domain not in ("source", "target"):
        raise InputError(f"domain={domain!r}: must be one of source, target")
    known = getattr(config, domain)
    if not known.image:
        raise InputError("--image is missing: must be the volume to score, as a released model has none of its own")
    return known, open_domain(known, working, f"--config.{domain}", with_labels=True)


def predict_with(config, variables, volume, box):
    """`yseg.inference.blocks.predict_blocks` of a segmentation network with these variables on a box of a Volume."""
    predict = make_predictor(config, variables)
    network = build_network(config.model, "ft")
    return predict_blocks(predict, network, volume.image, volume.grid, image_statistics(volume), box, config)


def scores_of_objects(volume, box, predicted):
    """`yseg.metrics.objects.object_scores` of class 1, for objects of OBJECT_NM in square or more."""
    truth = apply_rule(volume.labels[box.slices].read().result(), volume.rule)
    least = math.ceil((OBJECT_NM / volume.pixel_size_nm) ** 2)
    return {"object_least_voxels": least,
            **object_scores(np.where(truth < 0, np.int8(-1), (truth == 1).astype(np.int8)), predicted == 1, least_voxels=least)}


def with_progress(blocks, box, description, quiet):
    """The blocks, with a progress bar in sections."""
    with progress(box.shape[0], description, unit="sections", quiet=quiet) as bar:
        done, section = 0, box.shape[1] * box.shape[2]
        for place, probabilities in blocks:
            yield place, probabilities
            done += int(np.prod(place.shape))
            bar.update(done // section)
