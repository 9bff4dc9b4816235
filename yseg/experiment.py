"""The verbs that programs and researchers call: train, adapt, finetune, evaluate, segment, predict, export.

A workdir holds a run: config.json, checkpoints/, metrics.jsonl, TensorBoard events, report/*.png, and results.json after an
evaluation. Where a verb takes the folder of a run it also takes a `TrainedNetwork`, see `yseg.load_run` and `yseg.load_model`.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import tensorstore as ts

from yseg.config import MATCHED, TUNING_RATE, TUNING_STEPS, Domain, Experiment, InputError
from yseg.data.box import Box, parse_region
from yseg.data.domain import Reading, Volume, check_rule, given_domain, open_domain
from yseg.data.grid import Grid
from yseg.data.normalise import normalised
from yseg.data.split import split
from yseg.data.tissue import is_found, part_of_region
from yseg.files import write_whole
from yseg.inference.copies import shared_copy
from yseg.inference.engine import check_scheduler, engine
from yseg.inference.outputs import OUTPUT_TYPES
from yseg.metrics.counts import scores
from yseg.metrics.instances import component_scores
from yseg.metrics.objects import object_scores
from yseg.report import overlay
from yseg.runs.choice import read_choice
from yseg.runs.folder import REPORT, read_config, reporting
from yseg.runs.history import EVALUATED, SEGMENTED
from yseg.runs.moved import Moved
from yseg.runs.population import train_population
from yseg.runs.samples import middle_section
from yseg.runs.stages import adapting, finetuning
from yseg.runs.views import views_of
from yseg.trained import instances
from yseg.trained.applied import Applied, chosen_block
from yseg.trained.evaluation import evaluated
from yseg.trained.export import export
from yseg.trained.names import in_a_name, name_in_files, title_of
from yseg.trained.network import TrainedNetwork, network_of
from yseg.trained.reports import report_views
from yseg.trained.scored import kept_box, open_to_score
from yseg.trained.segmentation import begin, compute_missing
from yseg.trained.threshold import chosen_threshold
from yseg.volumes.catalog import DATASETS
from yseg.volumes.create import check_output, outputs_of, write_volume
from yseg.volumes.header import CLASSES, INSTANCES, Header
from yseg.volumes.opened import as_volume
from yseg.volumes.staged import is_begun
from yseg.volumes.table import check_table

__all__ = ["adapt", "evaluate", "export", "finetune", "predict", "segment", "train"]

OBJECT_VOXELS = 2**26  # largest region whose objects are counted: it is held in memory
OBJECT_NM = 100.0  # objects that are smaller than a square of this side in one section are no mitochondria


# --- Training ---


def train(config: Experiment, workdir: str | os.PathLike, quiet: bool = False, *, more_steps: bool = False,
          tracker: str = "") -> dict[str, Any]:
    """Train a network, or continue a run that was interrupted: it ends with the same parameters, to the bit.

    A run also goes on with another name, record or place of its data, see `yseg.runs.going_on`; a line on standard error says so.

    Args:
      config: `yseg.config.Experiment`. Self-training without a network to start from trains one before, in the same folder.
      workdir: the folder of the run; it is created.
      quiet: show no progress.
      more_steps: let a run of fewer steps go on from where it ended. With a cosine schedule, or with DANN, the result is not that
        of as many steps in one go: the line says so, and changes.jsonl in the workdir keeps it.
      tracker: "mlflow" or "wandb", a service that is told of it, see `yseg.training.trackers`; "" = none.

    Returns:
      dict: the last line of metrics.jsonl (step, loss, validation_iou, ...) and the workdir.

    Raises:
      InputError: anything about the config, the volumes or the workdir that the user has to change; nothing has been written.
      TrainingDiverged: the loss became infinite or not a number.
    """
    return next(train_population([config], [workdir], quiet=quiet, more_steps=more_steps, tracker=tracker))


def adapt(start: str | os.PathLike, workdir: str | os.PathLike, *, steps: int | None = None, seed: int | None = None,
          moved: Moved | None = None, quiet: bool = False, tracker: str = "") -> dict[str, Any]:
    """Adapt the segmentation network of a run to the target by self-training, without a label of it.

    Args:
      start: the folder of a trained run; what only its adaptation needed is dropped.
      workdir: the folder of the new run; it is created, or continued.
      steps: of the self-training; None = the run's `config.self_training.steps`.
      seed: of patches and augmentation; None = the run's.
      moved: where the volumes of the trained run are now, see `yseg.load_run`.
      quiet, tracker: see `train`.

    Returns:
      dict, see `train`.

    Raises:
      InputError: no trained run in `start`, or one that has seen labels of the target; a workdir that the user has to change.
    """
    return train(adapting(start, steps=steps, seed=seed, moved=moved), workdir, quiet, more_steps=True,
                 tracker=tracker)


def finetune(start: str | os.PathLike, workdir: str | os.PathLike, fraction: float, *, steps: int = TUNING_STEPS,
             learning_rate: float = TUNING_RATE, seed: int | None = None, quiet: bool = False,
             sections: Sequence[int] | None = None, moved: Moved | None = None, tracker: str = "") -> dict[str, Any]:
    """Train the segmentation network of a run further, on a share of the target's training labels.

    Args:
      start: the folder of a trained run; what only its adaptation needed is dropped.
      workdir: the folder of the new run; it is created, or continued. Its config lists the boxes whose labels are used.
      fraction: share of the target's training box, in [0, 1]; a smaller one lies inside a larger one of the same seed.
      steps, learning_rate: of the fine-tuning; the rest of the optimiser is the run's.
      seed: chooses the labels, patches and augmentation; None = the run's.
      quiet, tracker: see `train`.
      sections: numbers of those whose labels may be used; None = all of the training box.
      moved: where the volumes of the trained run are now, see `yseg.load_run`.

    Returns:
      dict, see `train`.

    Raises:
      InputError: no trained run in `start`; a fraction, labels or a workdir that the user has to change.
    """
    config = finetuning(start, fraction, steps=steps, learning_rate=learning_rate, seed=seed, sections=sections,
                        moved=moved)
    return train(config, workdir, quiet, more_steps=True, tracker=tracker)


# --- A trained network ---


def evaluate(workdir: str | os.PathLike | TrainedNetwork, *, image: str | None = None, labels: str | None = None,
             pixel_size_nm: float | None = None, foreground: str | None = None, region: str | None = None,
             threshold: float | str | None = None,
             domain: str = "target", batch_statistics: str | None = None,
             test_time_augmentation: bool | None = None, plausible_objects: bool | None = None,
             unlabelled: str | None = None, adapted: bool | None = None, moved: Moved | None = None,
             scheduler: str = "", quiet: bool = False, **reading: Unpack[Reading]) -> dict[str, Any]:
    """Score a trained network against labels, at the volume's own voxels.

    Args:
      workdir: the folder of the run, whose last checkpoint is scored; or a network that was loaded.
      image: a volume, see `yseg.open_volume`; None = the config's target, and of it the box kept for the test.
      labels: its label volume.
      pixel_size_nm: its size of a pixel in y and x; None = as its file says.
      foreground, unlabelled: which of its label values are foreground, and which mean "not labelled", as in
        `yseg.config.Domain`; default ">0" and none.
      region: "z0:z1,y0:y1,x0:x1" in voxels; None = the whole volume, or the test box of the config's own.
      threshold: of the foreground probability; None = the config's; "matched" = see `yseg.trained.threshold.matched_threshold`.
      domain: without an image: "target", or "source" for the validation box of the source.
      batch_statistics: "training", "target" or "mixed", see `yseg.config.Model`; None = the config's, and "training" for
        the source.
      test_time_augmentation, plausible_objects: see `yseg.config.Inference`; None = the config's.
      adapted: of the folder of a run of self-training: the adapted network, or (False) that which it started from; None = that
        which was chosen, see `yseg.runs.choice`.
      moved: of the folder of a run: where its volumes are now, see `yseg.load_run`.
      scheduler: who computes: "" = this process, or workers of Dask, see `yseg.inference.engine.check_scheduler`.
      quiet: show no progress.
      **reading: of the image, see `yseg.data.domain.Reading`.

    Returns:
      dict: iou, precision, recall, f1, accuracy, per_section_iou and the others of `yseg.metrics.counts.scores`, those of
      `yseg.metrics.objects.object_scores` and `yseg.metrics.instances.component_scores` (of a region that fits into memory), None
      where undefined; threshold, batch_statistics, test_time_augmentation, image, labels, region, step and wall_time in seconds.
      For the folder of a run it is also written there: as results.json for the run's own test, and every other question gets a
      file of its own, named after what differs, such as results_source.json or results_matched.json. Where the folder cannot be
      written to, a line on standard error says so.

    Raises:
      InputError: no run or no checkpoint in the workdir; volumes, region or threshold that the user has to change.
      yseg.inference.engine.BlocksFailedError: a block failed on every try, or the scheduler is gone.
    """
    began = time.perf_counter()
    check_scheduler(scheduler)
    given = network_of(workdir, adapted, moved)
    if threshold == MATCHED and domain == "source" and not image:
        raise InputError(f"--threshold={MATCHED}: must be a number with --domain=source, as it is matched on the target")
    known, volume = open_to_score(given.config, domain, image=image, labels=labels, pixel_size_nm=pixel_size_nm,
                                  foreground=foreground, unlabelled=unlabelled, **reading)
    box = parse_region(region or "", volume.file_shape)
    if not image and not region:
        box = kept_box(volume, domain, known)
    network = given.with_views(test_time_augmentation).with_plausible_objects(plausible_objects).with_statistics(
        batch_statistics or _usual_statistics(given, known))
    config = network.config
    number = chosen_threshold(threshold, network)
    part = _with_tissue(volume, box)
    if known.foreground != "classes":
        check_rule(volume, known.foreground, [part], background_alone=True)
    shown = middle_section(part.moved(volume.offset))
    kept = box if math.prod(box.shape) <= OBJECT_VOXELS else shown
    applied = Applied(network, known, box, chosen_block(network, volume, box, [np.uint8]), number,
                      own="" if image else domain, with_labels=True, volume=volume)
    with engine(scheduler) as workers:
        views = views_of(part.moved(volume.offset)) if network.reports else []
        counts, (predicted, *seen) = evaluated(applied, [kept, *views], workers, quiet=quiet)
    results = {
        "experiment": config.name, "method": network.provenance.get("method"), "seed": network.provenance.get("seed"),
        "step": network.step, "batch_statistics": network.statistics,
        "test_time_augmentation": config.inference.test_time_augmentation,
        "plausible_objects": config.inference.plausible_objects,
        "image": known.image, "labels": known.labels, "foreground": known.foreground,
        "pixel_size_nm": volume.pixel_size_nm, "region": str(box), **scores(counts),
        **(_scores_of_objects(volume, box, predicted) if kept == box else {}),
        "wall_time": time.perf_counter() - began,
    }
    if network.reports is None:
        return results
    own = read_config(network.reports, moved=moved)  # what its own test is asked with
    usual = "training" if _is_source(own, known) else own.model.batch_statistics
    choice = read_choice(network.reports)
    chosen = choice is None or choice.adapted
    eight, plausible = config.inference.test_time_augmentation, config.inference.plausible_objects
    differs = [*([name_in_files(known)] if image else ["source"] if domain == "source" else []),
               *([f"region_{in_a_name(str(box))}"] if region else []),
               *([f"{network.statistics}_statistics"] if network.statistics != usual else []),
               *([MATCHED] if threshold == MATCHED
                 else [f"threshold_{number!r}"] if number != config.inference.threshold else []),
               *(["augmented" if eight else "plain"] if eight != own.inference.test_time_augmentation else []),
               *([] if adapted is None or adapted == chosen else ["adapted" if adapted else "unadapted"]),
               *(["plausible" if plausible else "all_objects"] if plausible != own.inference.plausible_objects else [])]
    suffix = "".join(f"_{part}" for part in differs)
    iou = "undefined" if results["iou"] is None else f"{results['iou']:.4f}"
    title = f"{config.name}: {title_of(known.image)}, section {shown.start[0]}; IoU of the region {iou}"
    with reporting(network.reports, f"results{suffix}.json and pictures"):
        write_whole(network.reports / f"results{suffix}.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
        overlay(volume.image_in_files(shown)[0], predicted[shown.relative_to(kept).slices][0],
                network.reports / REPORT / f"evaluation{suffix}.png", title=title, pixel_size_nm=volume.pixel_size_nm,
                truth=volume.classes_in_files(shown)[0])
        told = {"image": known.image, "labels": known.labels, "region": str(box), "threshold": number, "iou": results["iou"]}
        report_views(network, EVALUATED, volume, dict(zip(views, seen, strict=True)), told=told)
    return results


def segment(workdir: str | os.PathLike | TrainedNetwork, image: str, output: str | os.PathLike, *,
            pixel_size_nm: float | None = None, region: str | None = None, overwrite: bool = False,
            threshold: float | str | None = None, batch_statistics: str | None = None,
            test_time_augmentation: bool | None = None, plausible_objects: bool | None = None,
            adapted: bool | None = None, moved: Moved | None = None, what: str = CLASSES, format: str | None = None,
            scheduler: str = "", part: str = "", block: str = "", least_nm: float | None = None, separate: bool = True,
            quiet: bool = False, **reading: Unpack[Reading]) -> str:
    """Segment a volume with a trained network, on the image's own voxels [z, y, x].

    It is computed in blocks, see `yseg.trained.segmentation`: after an interruption, the same call goes on with those that are
    missing. The output is there whole or not at all.

    Args:
      workdir: the folder of the run, whose last checkpoint is used; or a network that was loaded.
      image: a volume of any size, see `yseg.open_volume`.
      output: a path, or s3:// or gs:// URL, see `yseg.volumes.create.check_output`; it has the region's shape and place.
      pixel_size_nm: size of a pixel in y and x; None = the config's for its own volumes, and else as the file says.
      region: "z0:z1,y0:y1,x0:x1" in voxels; None = the whole volume.
      overwrite: replace the output if it exists and yseg wrote it.
      threshold, batch_statistics, test_time_augmentation, plausible_objects, adapted, moved: see `evaluate`.
      what: "classes" (uint8), "probability" of foreground (float32), or "both", see `yseg.volumes.create.outputs_of`; or
        "instances" (uint32 ids, 0 = none), with a table of them beside it, see `yseg.volumes.table.table_of`.
      format: how it is written, one of `yseg.volumes.header.FORMATS`; None = by the ending of its name.
      scheduler: who computes: "" = this process, or workers of Dask, see `yseg.inference.engine.check_scheduler`.
      part: "i/n": compute the i-th of n shares of the blocks, from 0 on, and write no output; a call without it writes that.
      block: "z,y,x": the sections, rows and columns of a block, on which the memory depends; "" = they are chosen.
      least_nm, separate: of instances, see `yseg.trained.instances.rule_of`.
      quiet: show no progress.

    Returns:
      The output's path or URL.

    Raises:
      InputError: no run or no checkpoint in the workdir; volumes, region or threshold that the user has to change.
      yseg.inference.engine.BlocksFailedError: some blocks failed on every try; the same call tries them again.
    """
    given, output = network_of(workdir, adapted, moved), str(output)
    outputs = outputs_of(output, what)
    known = given_domain(given.config, image, pixel_size_nm=pixel_size_nm, **reading)
    read = {f"{name}.{what}": getattr(domain, what) for name, domain in
            (("source", given.config.source), ("target", given.config.target)) for what in ("image", "labels", "mask")}
    read = {name: spec for name, spec in (read | {"--image": known.image, "--mask": known.mask}).items()
            if not (name.endswith("mask") and is_found(spec))}
    check_scheduler(scheduler)
    for kind, spec in outputs.items():
        check_output(spec, overwrite, format=format, inputs=read, dtype=OUTPUT_TYPES[kind])
    if what == INSTANCES:
        check_table(output, overwrite or is_begun(output), header=instances.HEADER, inputs=read)
    volume = open_domain(known, given.config.sampling, "-", with_labels=False)
    box = parse_region(region or "", volume.file_shape)
    tissue = _with_tissue(volume, box).moved(volume.offset)
    shown = middle_section(tissue)
    network = given.with_views(test_time_augmentation).with_plausible_objects(plausible_objects).with_statistics(
        batch_statistics or _usual_statistics(given, known))
    apart_nm = volume.section_nm or (DATASETS[known.dataset].section_nm if known.dataset else None)
    rule = instances.rule_of(what, network, volume, apart_nm, least_nm=least_nm, separate=separate)
    job = begin(network, known, volume, box, output=output, kinds=outputs, threshold=chosen_threshold(threshold, network),
                discard=overwrite, block=block, rule=rule)
    with engine(scheduler) as workers:
        compute_missing(job, workers, part=part, quiet=quiet)
        if part:
            return output
        picture, title = job.classes(shown), f"{network.config.name}: {title_of(known.image)}"
        views = {view: job.classes(view) for view in views_of(tissue) if network.reports}
        start = [(first or 0.0) + inner for first, inner in zip(volume.start, box.start, strict=True)]
        for kind, spec in outputs.items():
            header = Header(kind, volume.pixel_size_nm, apart_nm, network.config.model.classes, start)
            found = instances.find(job, workers, quiet=quiet) if kind == INSTANCES else None
            if found:
                instances.write_objects(found, job, header, output)
            write_volume(spec, job.staged.voxels(kind), header, overwrite=overwrite, format=format, inputs=read,
                         copy=shared_copy(workers, quiet), within=job.staged.output(kind))
            if found:
                instances.tell_objects(found, job, header, title=title, quiet=quiet)
    job.staged.remove()
    if network.reports is not None:
        with reporting(network.reports, "pictures"):
            overlay(volume.image_in_files(shown)[0], picture[0], network.reports / REPORT / "segmentation.png",
                    title=f"{title}, section {shown.start[0]}", pixel_size_nm=volume.pixel_size_nm)
            told = {"image": known.image, "region": str(box), "threshold": job.applied.threshold, "outputs": outputs}
            report_views(network, SEGMENTED, volume, views, told=told)
    return output


def predict(network: str | os.PathLike | TrainedNetwork, array: np.ndarray, *, pixel_size_nm: float | None = None,
            batch_statistics: str | None = None) -> np.ndarray:
    """Class probabilities of an image in memory: array in, array out, no file is written.

    Args:
      network: one that was loaded, or the folder of a run.
      array: grey levels [z, y, x] or [y, x], integers or floats; they are normalised as the network's volumes were, by their own
        mean and deviation.
      pixel_size_nm: size of a pixel in y and x; None = that on which the network works.
      batch_statistics: see `evaluate`; None = the network's.

    Returns:
      float32 [z, y, x, class] or [y, x, class].

    Raises:
      ValueError: the array has another shape or type, or values that are not finite.
    """
    trained, array = network_of(network).with_statistics(batch_statistics), np.asarray(array)
    working = trained.config.sampling.working_pixel_size_nm
    if array.ndim not in (2, 3) or array.dtype.kind not in "uifb":
        raise ValueError(f"array of shape {array.shape} and type {array.dtype}: must be [z, y, x] or [y, x] of numbers")
    if not np.isfinite(array).all():
        raise ValueError("array: has values that are not finite; must be numbers")
    if pixel_size_nm is not None and not 0 < pixel_size_nm < math.inf:
        raise ValueError(f"pixel_size_nm={pixel_size_nm}: must be above 0 and finite")
    size = pixel_size_nm or working
    image = normalised(as_volume(ts.array(np.ascontiguousarray(array)), "array"), trained.config.sampling, size)
    box = Box.whole(image.shape)
    volume = Volume(image, None, None, Grid(box.shape, size, working), split(image.shape, "x", 0.0, 0.0), size, "array")
    found = np.empty((*box.shape, trained.config.model.classes), np.float32)
    for place, probabilities in trained.predict(volume, [box]):
        found[place.slices] = probabilities
    return found.reshape(*array.shape, -1)


def _with_tissue(volume: Volume, box: Box) -> Box:
    """The part of a region of a volume's files in which there is tissue, in the voxels of the Volume."""
    part = part_of_region(box, volume.place)
    if part.is_empty:
        raise InputError(f"--region={box}: has no tissue; must have some of {volume.place}, the box around all of it")
    return part


def _usual_statistics(network: TrainedNetwork, known: Domain) -> str:
    """Whose batch statistics a volume is segmented with: the training's for the source itself, else the network's."""
    return "training" if _is_source(network.config, known) else network.statistics


def _is_source(config: Experiment, known: Domain) -> bool:
    return known.image == config.source.image != config.target.image


def _scores_of_objects(volume, box, predicted):
    """Those of `yseg.metrics.objects` and `yseg.metrics.instances` of class 1, for objects of OBJECT_NM in square or more."""
    truth = volume.classes_in_files(box)
    least = math.ceil((OBJECT_NM / volume.pixel_size_nm) ** 2)
    binary = np.where(truth < 0, np.int8(-1), (truth == 1).astype(np.int8))
    return {"object_least_voxels": least, **object_scores(binary, predicted == 1, least_voxels=least),
            **component_scores(binary, predicted == 1, least_voxels=least)}
