"""yseg.config: every knob has its type and range, and combinations that cannot be are refused in one line."""

import dataclasses

import pytest
from tiny import experiment

from yseg.config import (
    JOINT,
    NONE,
    ONLY,
    STATISTICS,
    Adaptation,
    Augmentation,
    Domain,
    Experiment,
    InputError,
    Loss,
    Model,
    Optimizer,
    Record,
    Sampling,
    TargetLabels,
    check,
    knobs,
    labelled_domain,
    level_weights,
    may_be_empty,
    no_augmentation,
    required,
    statistics_name,
    strong_augmentation,
)

BOXES = ("0:1,:,:", "2:3,0:20,:")


def refused(**fields):
    """The line with which an experiment is refused."""
    with pytest.raises(InputError, match=r"^--config\.") as caught:
        check(Experiment(**fields))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_defaults_are_valid():
    check(Experiment())
    check(experiment())
    for augmentation in (strong_augmentation(), no_augmentation()):
        check(Experiment(augmentation=augmentation))


def test_every_knob_has_a_meaning_and_a_default_of_its_type_within_its_range():
    listed = list(knobs(Experiment()))
    assert len({flag for flag, *_ in listed}) == len(listed) > 80
    assert all(metadata["meaning"] for _, _, metadata, _ in listed)
    assert [flag for flag, expected, _, value in listed if value is None and not may_be_empty(expected)] == []


@pytest.mark.parametrize("name", ["seed", "optimizer.steps"])
def test_whole_numbers_beyond_what_jax_counts_with_are_refused(name):
    fields = {"seed": 2**31} if name == "seed" else {"optimizer": Optimizer(steps=2**31)}
    assert refused(**fields) == f"--config.{name}=2147483648: must be at most 2147483647"
    check(Experiment(seed=2**31 - 1))


# --- Several steps in one call ---


@pytest.mark.parametrize(("at_once", "log_every", "steps"), [(1, 1, 1), (20, 20, 1200), (5, 20, 5), (1, 20, 0)])
def test_steps_in_one_call_up_to_a_line_of_metrics_and_the_training_are_valid(at_once, log_every, steps):
    check(Experiment(sampling=Sampling(steps_at_once=at_once), record=Record(log_every=log_every),
                     optimizer=Optimizer(steps=steps)))


@pytest.mark.parametrize(("at_once", "log_every", "steps"), [(21, 20, 1200), (2, 1, 1200), (6, 20, 5), (2, 20, 0)])
def test_more_steps_in_one_call_are_refused(at_once, log_every, steps):
    said = refused(sampling=Sampling(steps_at_once=at_once), record=Record(log_every=log_every), optimizer=Optimizer(steps=steps))
    assert said.startswith(f"--config.sampling.steps_at_once={at_once}: must be at most --config.record.log_every={log_every}")
    assert f"--config.optimizer.steps={steps}" in said


def test_several_steps_in_one_call_are_refused_for_volumes_that_are_read_as_needed():
    said = refused(sampling=Sampling(steps_at_once=2, reader="streaming"))
    assert said.startswith("--config.sampling.steps_at_once=2: must be 1 with --config.sampling.reader=streaming")
    for reader in ("auto", "resident"):
        check(Experiment(sampling=Sampling(steps_at_once=2, reader=reader)))
    check(Experiment(sampling=Sampling(steps_at_once=1, reader="streaming")))


# --- Labels of the target ---


@pytest.mark.parametrize(("method", "labels", "steps"), [
    ("ynet", TargetLabels(), 10), ("ynet", TargetLabels(NONE, 0.5), 10), ("ynet", TargetLabels(NONE, 0.0), 10),
    ("ynet", TargetLabels(JOINT, 0.15), 10), ("ft", TargetLabels(JOINT, 1.0, BOXES), 10),
    ("coral", TargetLabels(JOINT, 0.1, BOXES), 0),
    ("ft", TargetLabels(ONLY, 0.15), 10), ("ft", TargetLabels(ONLY, 0.15, BOXES, "run"), 10),
    ("ft", TargetLabels(ONLY, 0.1, BOXES), 10), ("ft", TargetLabels(ONLY, 0.0, start="run"), 0),
    ("ft", TargetLabels(ONLY, 0.15, BOXES, "run", 1.0), 10)])
def test_uses_of_target_labels_that_are_valid(method, labels, steps):
    check(Experiment(method=method, target_labels=labels, optimizer=Optimizer(steps=steps)))


@pytest.mark.parametrize(("method", "labels", "said"), [
    ("ft", TargetLabels(start="run"), "--config.target_labels.start=run: must come with --config.target_labels.use=only"),
    ("ft", TargetLabels(JOINT, start="run"), "--config.target_labels.start=run: must come with --config.target_labels.use=only"),
    ("ft", TargetLabels(boxes=BOXES), "--config.target_labels.boxes=('0:1,:,:', '2:3,0:20,:'): must come with"
                                      " --config.target_labels.use=joint or only"),
    ("ynet", TargetLabels(ONLY), "--config.method=ynet: must be ft with --config.target_labels.use=only"),
    ("mmd", TargetLabels(ONLY, boxes=BOXES), "--config.method=mmd: must be ft with --config.target_labels.use=only"),
    ("ynet", TargetLabels(JOINT, 0.0), "--config.target_labels.fraction=0: must be above 0 with"
                                       " --config.target_labels.use=joint"),
    ("ft", TargetLabels(ONLY, 0.0), "--config.target_labels.fraction=0: must be above 0 with --config.target_labels.use=only"),
    ("ft", TargetLabels(ONLY, 0.0, start="run"), "--config.target_labels.fraction=0: must be above 0"),
    ("ft", TargetLabels("often"), "--config.target_labels.use='often': must be one of none, joint, only"),
    ("ft", TargetLabels(JOINT, 1.5), "--config.target_labels.fraction=1.5: must be at most 1"),
    ("ft", TargetLabels(ONLY, fraction_before=-0.1), "--config.target_labels.fraction_before=-0.1: must be at least 0"),
    ("ft", TargetLabels(JOINT, boxes=(1,)), "--config.target_labels.boxes=1: must be text"),
    ("ft", TargetLabels(JOINT, boxes="0:1,:,:"), "--config.target_labels.boxes='0:1,:,:': must be a list of texts")])
def test_uses_of_target_labels_that_are_refused(method, labels, said):
    assert refused(method=method, target_labels=labels).startswith(said)


def test_a_joint_training_on_no_labels_is_refused_also_without_steps():
    assert "fraction=0" in refused(target_labels=TargetLabels(JOINT, 0.0), optimizer=Optimizer(steps=0))


@pytest.mark.parametrize(("use", "domain"), [(NONE, "source"), (JOINT, "source"), (ONLY, "target")])
def test_whose_labels_are_trained_on(use, domain):
    assert labelled_domain(Experiment(target_labels=TargetLabels(use))) == domain


# --- Other combinations ---


@pytest.mark.parametrize(("fields", "said"), [
    ({"sampling": Sampling(patch_size=60)}, "--config.sampling.patch_size=60: must be a multiple of 8"),
    ({"model": Model(sections=2)}, "--config.model.sections=2: must be odd"),
    ({"model": Model(normalization="group", features=12)}, "--config.model.groups=8: must divide --config.model.features=12"),
    ({"loss": Loss(class_weights=(1.0,))}, "--config.loss.class_weights=(1.0,): must have --config.model.classes=2 entries"),
    ({"loss": Loss(class_weights=(0.0, 0.0))}, "--config.loss.class_weights=(0.0, 0.0): must not all be 0"),
    ({"loss": Loss("tversky", tversky_alpha=0.0, tversky_beta=0.0)}, "--config.loss.tversky_alpha=0: must be above 0"),
    ({"adaptation": Adaptation(bandwidths=())}, "--config.adaptation.bandwidths=(): must be numbers above 0"),
    ({"adaptation": Adaptation(level_weights=(1.0,))}, "--config.adaptation.level_weights=(1.0,): must have 4 entries"),
    ({"adaptation": Adaptation(level_weights=(0.0,) * 4)}, "--config.adaptation.level_weights=(0.0, 0.0, 0.0, 0.0): must have 4"),
    ({"adaptation": Adaptation(pixels=1)}, "--config.adaptation.pixels=1: must be at least 2"),  # covariances need two
    ({"adaptation": Adaptation(weight=float("nan"))}, "--config.adaptation.weight=nan: must be finite"),
    ({"adaptation": Adaptation(weight="1")}, "--config.adaptation.weight='1': must be a number"),
    ({"target": Domain(validation_fraction=0.5, test_fraction=0.5)}, "--config.target.test_fraction=0.5: with"
     " --config.target.validation_fraction=0.5 nothing is left to train on"),
    ({"augmentation": Augmentation(rotate=1)}, "--config.augmentation.rotate=1: must be true or false"),
    ({"seed": True}, "--config.seed=True: must be a whole number")])
def test_what_cannot_be_is_refused(fields, said):
    assert refused(**fields).startswith(said)


def test_a_weight_may_be_left_to_the_method_and_another_number_may_not():
    check(Experiment(adaptation=Adaptation(weight=None)))
    assert refused(adaptation=Adaptation(hidden=None)).startswith("--config.adaptation.hidden=None: must be a whole number")
    assert may_be_empty(float | None)
    assert not may_be_empty(float)
    assert required(float | None) is required(float) is float


# --- What is read from a config ---


@pytest.mark.parametrize("name", ["source", *STATISTICS])
def test_batch_statistics_have_an_alias_of_earlier_versions(name):
    check(Experiment(model=Model(batch_statistics=name)))
    assert statistics_name(name) == ("training" if name == "source" else name)
    assert "source" not in STATISTICS


def test_level_weights_double_toward_the_bottleneck_and_sum_to_lambda():
    weights = level_weights(Adaptation(weight=3.0), 4)
    assert weights == pytest.approx([3 * weight / 31 for weight in (1, 2, 4, 8, 16)])
    given = Adaptation(weight=3.0, level_weights=(0.0, 1.0, 1.0, 0.0, 2.0))
    assert level_weights(given, 4) == pytest.approx((0, 0.75, 0.75, 0, 1.5))
    assert level_weights(dataclasses.replace(given, weight=0.0), 4) == (0,) * 5


def test_level_weights_without_a_weight_are_a_mistake_of_the_program():
    with pytest.raises(ValueError, match=r"adaptation\.weight") as caught:
        level_weights(Adaptation(), 2)
    assert not isinstance(caught.value, InputError)
