"""The verbs that programs and researchers call: train, finetune, evaluate, segment.

A workdir holds a run: config.json, checkpoints/, metrics.jsonl, TensorBoard events, report/*.png, and results.json after an
evaluation.
"""

import dataclasses
import json
import math
import os
import time
from pathlib import Path

import numpy as np

from yseg.config import MATCHED, TUNING_RATE, TUNING_STEPS, FineTuning, InputError
from yseg.data import target_labels
from yseg.data.box import parse_region
from yseg.data.domain import given_domain, open_domain
from yseg.data.labels import apply_rule
from yseg.files import write_whole
from yseg.inference.outputs import score, write_segmentation
from yseg.metrics.counts import scores
from yseg.report import overlay
from yseg.runs.folder import REPORT, read_config
from yseg.runs.samples import copying, middle_section
from yseg.runs.session import compiled_step, prepare, run
from yseg.trained.network import (
    chosen_statistics,
    config_of,
    open_to_score,
    predict_with,
    scores_of_objects,
    usual_statistics,
    variables_of,
    with_augmentation,
    with_progress,
)
from yseg.trained.released import ReleasedModel
from yseg.trained.threshold import chosen_threshold
from yseg.volumes.catalog import DATASETS
from yseg.volumes.volume import check_output, create_volume

OBJECT_VOXELS = 2**26  # largest region whose objects are counted: it is held in memory


# --- Training ---


def train(config, workdir, quiet=False):
    """Train a network, or continue a run that was interrupted: it ends with the same parameters, to the bit.

    Args:
      config: `yseg.config.Experiment`.
      workdir: the folder of the run; it is created.
      quiet: show no progress.

    Returns:
      dict: the last line of metrics.jsonl (step, loss, validation_iou, ...) and the workdir.

    Raises:
      InputError: anything about the config, the volumes or the workdir that the user has to change; nothing has been written.
      TrainingDiverged: the loss became infinite or not a number.
    """
    prepared = prepare(config, workdir)
    return run([prepared], compiled_step(prepared.config), quiet)[0]


def supervised(config, fraction, start="", sections=None):
    """The config of a training on labels of the target: a fine-tuning of a run, or an oracle from scratch.

    Args:
      config: resolved `yseg.config.Experiment`; its seed chooses the labels.
      fraction: share of the target's training box, see `yseg.data.split.share_of`.
      start: workdir of the run whose network is trained further; "" = from scratch.
      sections: numbers of those whose labels may be used; None = all.

    Raises:
      InputError: the fraction is not in [0, 1], or 0 from scratch; the target cannot be read or has no labels.
    """
    if not (0 <= fraction <= 1 and (fraction or start)):
        raise InputError(f"--fraction={fraction}: must be at least 0 and at most 1")
    target = open_domain(config.target, config.sampling.working_pixel_size_nm, "--config.target", with_labels=True)
    tuning = FineTuning(start=start and str(Path(start).absolute()), fraction=fraction,
                        boxes=target_labels.label_boxes(config, target, fraction, sections))
    # What is trained on the target has the target's statistics as its own.
    return dataclasses.replace(config, method="ft", finetuning=tuning, semi_supervised="finetune", labelled_boxes=(),
                               model=dataclasses.replace(config.model, batch_statistics="source"))


def finetuning(start, fraction, steps=TUNING_STEPS, learning_rate=TUNING_RATE, seed=None, sections=None):
    """The config of `finetune`; labels of some sections alone may be used, see `supervised`."""
    config = read_config(start, "--from")
    config = supervised(dataclasses.replace(config, seed=config.seed if seed is None else seed), fraction, start, sections)
    steps = steps if fraction else 0
    return dataclasses.replace(
        config, name=f"{config.name}, fine-tuned on {100 * fraction:g} %",
        optimizer=dataclasses.replace(config.optimizer, steps=steps, learning_rate=learning_rate, warmup_steps=steps // 10),
        record=dataclasses.replace(config.record, validate_every=0))


def finetune(start, workdir, fraction, steps=TUNING_STEPS, learning_rate=TUNING_RATE, seed=None, quiet=False, sections=None):
    """Train the segmentation network of a run further, on a share of the target's training labels.

    Args:
      start: the folder of a trained run; what only its adaptation needed is dropped.
      workdir: the folder of the new run; it is created, or continued. Its config lists the boxes whose labels are used.
      fraction: share of the target's training box, in [0, 1]; a smaller one lies inside a larger one of the same seed.
      steps, learning_rate: of the fine-tuning; the rest of the optimiser is the run's.
      seed: chooses the labels, patches and augmentation; None = the run's.
      quiet: show no progress.
      sections: numbers of those whose labels may be used; None = all of the training box.

    Returns:
      dict, see `train`.

    Raises:
      InputError: no trained run in `start`; a fraction, labels or a workdir that the user has to change.
    """
    return train(finetuning(start, fraction, steps, learning_rate, seed, sections), workdir, quiet)


# --- A trained run ---


def evaluate(workdir, image=None, labels=None, pixel_size_nm=None, foreground=None, region=None, threshold=None, domain="target",
             batch_statistics=None, test_time_augmentation=None, quiet=False):
    """Score the last checkpoint of a run against labels, at the volume's own voxels.

    Args:
      workdir: the folder of the run; or a `yseg.load_model`, whose folder stays as it is: nothing is written.
      image: a volume, see `yseg.volumes.volume.open_volume`; None = the config's target, and of it the box kept for the test.
      labels: its label volume.
      pixel_size_nm: its size of a pixel in y and x.
      foreground: which of its label values are foreground, as in `yseg.config.Domain`; default ">0".
      region: "z0:z1,y0:y1,x0:x1" in voxels; None = the whole volume, or the test box of the config's own.
      threshold: of the foreground probability; None = the config's; "matched" = see `yseg.trained.threshold.matched_threshold`.
      domain: without an image: "target", or "source" for the validation box of the source.
      batch_statistics: "source", "target" or "mixed", see `yseg.config.Model`; None = the config's, and "source" for the source.
      test_time_augmentation: see `yseg.config.Inference`; None = the config's.
      quiet: show no progress.

    Returns:
      dict, also written as results.json (results_source.json for the source, results_source_statistics.json and the like for
      other statistics than the config's, ..._matched.json for a matched threshold, ..._augmented.json or ..._plain.json for
      test-time augmentation other than the config's): iou, precision, recall, f1, accuracy, per_section_iou and the others of
      `yseg.metrics.counts.scores`, those of `yseg.metrics.objects.object_scores` (of a region that fits into memory), None where undefined;
      threshold, batch_statistics, test_time_augmentation, image, labels, region, step and wall_time in seconds.

    Raises:
      InputError: no run or no checkpoint in the workdir; volumes, region or threshold that the user has to change.
    """
    began = time.perf_counter()
    trained = config_of(workdir)
    config = with_augmentation(trained, test_time_augmentation)
    known, volume = open_to_score(config, image, labels, pixel_size_nm, foreground, domain)
    box = parse_region(region or "", volume.image.shape)
    if not image and not region:
        box = volume.split.validation if domain == "source" else volume.split.test
        if box.is_empty:
            knob = "validation_fraction" if domain == "source" else "test_fraction"
            raise InputError(f"--config.{domain}.{knob}={getattr(known, knob)}: the run keeps nothing to score; give --region")
    own_source = not image and domain == "source"
    usual = usual_statistics(config, known)
    chosen = chosen_statistics(workdir, batch_statistics, usual)
    variables, step = variables_of(workdir, config, chosen)
    matched = threshold == MATCHED
    threshold = chosen_threshold(threshold, config, variables)
    blocks = predict_with(config, variables, volume, box)
    shown = middle_section(box)
    kept = box if math.prod(box.shape) <= OBJECT_VOXELS else shown
    predicted = np.zeros(kept.shape, np.uint8)
    blocks = copying(with_progress(blocks, box, "Evaluating", quiet), kept, predicted, threshold)
    counts = score(blocks, volume.labels, volume.rule, box, (threshold,), config.model.classes)
    results = {
        "experiment": config.name, "method": config.method, "seed": config.seed, "step": step,
        "batch_statistics": chosen, "test_time_augmentation": config.inference.test_time_augmentation,
        "image": known.image, "labels": known.labels, "foreground": known.foreground,
        "pixel_size_nm": volume.pixel_size_nm, "region": str(box), **scores(counts),
        **(scores_of_objects(volume, box, predicted) if kept == box else {}),
        "wall_time": time.perf_counter() - began,
    }
    if isinstance(workdir, ReleasedModel):
        provenance = workdir.description["provenance"]
        return results | {name: provenance.get(name) for name in ("method", "seed")}
    workdir, suffix = Path(workdir), ("_source" if own_source else "") + ("" if chosen == usual else f"_{chosen}_statistics")
    suffix += "_matched" if matched else ""
    if config.inference != trained.inference:
        suffix += "_augmented" if test_time_augmentation else "_plain"
    write_whole(workdir / f"results{suffix}.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    truth = apply_rule(volume.labels[shown.slices].read().result(), volume.rule)[0]
    iou = "undefined" if results["iou"] is None else f"{results['iou']:.4f}"
    title = f"{config.name}: {_name(known.image)}, section {shown.start[0]}; IoU of the region {iou}"
    overlay(volume.image[shown.slices].read().result()[0], predicted[shown.relative_to(kept).slices][0],
            workdir / REPORT / f"evaluation{suffix}.png", title, volume.pixel_size_nm, truth)
    return results


def segment(workdir, image, output, pixel_size_nm=None, region=None, overwrite=False, threshold=None, batch_statistics=None,
            test_time_augmentation=None, quiet=False):
    """Segment a volume with the last checkpoint of a run: a Zarr v3 array, uint8 classes [z, y, x] on the image's own voxels.

    Args:
      workdir: the folder of the run; or a `yseg.load_model`, whose folder stays as it is.
      image: a volume of any size, see `yseg.volumes.volume.open_volume`.
      output: a path that ends in .zarr; it has the region's shape.
      pixel_size_nm: size of a pixel in y and x; may be None for the config's own volumes.
      region: "z0:z1,y0:y1,x0:x1" in voxels; None = the whole volume.
      overwrite: replace the output if it exists.
      threshold: of the foreground probability; None = the config's; "matched" = see `yseg.trained.threshold.matched_threshold`.
      batch_statistics: "source", "target" or "mixed", see `yseg.config.Model`; None = the config's, and "source" for its source.
      test_time_augmentation: see `yseg.config.Inference`; None = the config's.
      quiet: show no progress.

    Returns:
      The path of the output.

    Raises:
      InputError: no run or no checkpoint in the workdir; volumes, region or threshold that the user has to change. Nothing has
        been written.
    """
    config = with_augmentation(config_of(workdir), test_time_augmentation)
    check_output(output, overwrite)
    if os.path.realpath(output) == os.path.realpath(image):
        raise InputError(f"--output={output}: must be another path than --image")
    known = given_domain(config, image, None, pixel_size_nm, None)
    volume = open_domain(known, config.sampling.working_pixel_size_nm, "-", with_labels=False)
    box = parse_region(region or "", volume.image.shape)
    chosen = chosen_statistics(workdir, batch_statistics, usual_statistics(config, known))
    variables = variables_of(workdir, config, chosen)[0]
    threshold = chosen_threshold(threshold, config, variables)
    blocks = predict_with(config, variables, volume, box)
    shown = middle_section(box)
    picture = np.zeros(shown.shape, np.uint8)
    blocks = copying(with_progress(blocks, box, "Segmenting", quiet), shown, picture, threshold)
    section_nm = DATASETS[known.dataset].section_nm if known.dataset else None
    with create_volume(output, box.shape, np.uint8, volume.pixel_size_nm, section_nm, overwrite) as store:
        write_segmentation(blocks, store, box, threshold)
    if not isinstance(workdir, ReleasedModel):  # whose folder stays as it is
        overlay(volume.image[shown.slices].read().result()[0], picture[0], Path(workdir) / REPORT / "segmentation.png",
                f"{config.name}: {_name(known.image)}, section {shown.start[0]}", volume.pixel_size_nm)
    return output


def _name(spec):
    """A volume's name for titles."""
    return spec.split("?")[0] if "://" in spec else Path(spec).name
