"""From the config's domains to opened volumes and training regions."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
from tiny import counted

from yseg.config import IGNORED, JOINT, NONE, ONLY, Domain, Experiment, InputError, Optimizer, Sampling, TargetLabels
from yseg.data.box import Box, parse_region
from yseg.data.domain import (
    check_classes,
    given_domain,
    listed_target_labels,
    open_domain,
    open_domains,
    open_own_domain,
    training_region,
    training_regions,
)
from yseg.data.labels import label_rule
from yseg.data.patches import make_reader
from yseg.runs.resolve import resolve
from yseg.volumes.arrays import create_array
from yseg.volumes.create import create_volume
from yseg.volumes.opened import VolumeNotice

PATCH = 8


def written(path, image):
    with create_array(str(path), image.shape, image.dtype, 5.0) as store:
        store.write(image).result()
    return str(path)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Paths of an image and its labels, and the image."""
    folder, random = tmp_path_factory.mktemp("volumes"), np.random.default_rng(0)
    image = random.integers(0, 200, (3, 40, 60), np.uint8)
    image[:, :, 40:] += 50  # what lies in no training box
    return {"image": written(folder / "image.zarr", image), "labels": written(folder / "labels.zarr", image // 100),
            "pixels": image}


def domain(volumes, **fields):
    return Domain(**{"image": volumes["image"], "labels": volumes["labels"], "pixel_size_nm": 5.0} | fields)


def resolved(volumes, use=NONE, **fields):
    """An experiment on the volumes, which have 20 x 30 working pixels, half of them for training."""
    target = domain(volumes, foreground=">=1", validation_fraction=0.25, test_fraction=0.25)
    defaults = {"source": target, "target": target, "sampling": Sampling(patch_size=PATCH),
                "target_labels": TargetLabels(use, 0.4) if use != NONE else TargetLabels()}
    return resolve(Experiment(**defaults | fields))


# --- Opening ---


def test_labels_and_a_mask_that_lie_elsewhere_are_said(tmp_path):
    values = np.random.default_rng(0).integers(1, 200, (3, 40, 60), np.uint8)
    paths = {name: f"{tmp_path}/{name}.precomputed" for name in ("image", "labels", "mask")}
    for number, path in enumerate(paths.values()):
        with create_volume(path, values.shape, np.uint8, 5.0, section_nm=50.0, start=(number, 0, 0)) as store:
            store[...] = values
    with pytest.warns(VolumeNotice) as said:
        volume = open_domain(Domain(**paths, pixel_size_nm=5.0), Sampling(), "--config.source", with_labels=True)
    assert [str(note.message).split(" nm")[0] for note in said] == ["--config.source.labels starts at 50, 0, 0",
                                                                    "--config.source.mask starts at 100, 0, 0"]
    assert volume.start == (0, 0, 0)


def test_labels_are_not_opened_unless_they_are_needed(volumes):
    missing = domain(volumes, labels=volumes["labels"] + ".gone")
    assert open_domain(missing, Sampling(), "--config.target", with_labels=False).labels is None
    with pytest.raises(InputError, match=r"--config\.target\.labels="):
        open_domain(missing, Sampling(), "--config.target", with_labels=True)


@pytest.mark.parametrize(("use", "labelled", "joint"), [
    (NONE, "source", False), (JOINT, "source", True), (ONLY, "target", False)])
def test_each_use_of_target_labels_opens_what_it_needs_and_no_more(volumes, use, labelled, joint):
    config = resolved(volumes, use)
    other = Domain(**{**vars(config.source), "pixel_size_nm": 7.0, "metadata": IGNORED})  # tells it from the target
    domains = open_domains(dataclasses.replace(config, source=other))
    assert domains.labelled.pixel_size_nm == (7.0 if labelled == "source" else 5.0)
    assert domains.labelled.labels is not None
    assert domains.target.labels is None  # whoever takes target images cannot read a label
    assert (domains.joint is not None) == joint
    assert not joint or domains.joint.labels is not None


def test_target_labels_for_scoring_alone_are_missed_before_the_training_but_not_passed_on(volumes):
    config = resolved(volumes)
    assert open_domains(config).target.labels is None
    gone = dataclasses.replace(config.target, labels=str(Path(volumes["labels"]).with_name("gone.zarr")))
    with pytest.raises(InputError, match=r"--config\.target\.labels=.*gone.zarr: no such file"):
        open_domains(dataclasses.replace(config, target=gone))
    none = dataclasses.replace(config.target, labels="")
    assert open_domains(dataclasses.replace(config, target=none)).target.labels is None


# --- Statistics ---


def test_statistics_are_of_the_whole_image_and_are_read_once(volumes):
    opened = open_domain(domain(volumes, validation_fraction=0.25, test_fraction=0.25), Sampling(), "--config.source",
                         with_labels=True)
    image, reads = counted(volumes["pixels"])
    volume = dataclasses.replace(opened, image=image)
    assert reads == []  # not before they are asked for
    pixels = volumes["pixels"].astype(np.float64)
    np.testing.assert_allclose(volume.statistics, (pixels.mean(), pixels.std()), rtol=1e-6)
    assert len(reads) == 3  # sections
    for _ in range(2):
        assert training_region(volume, PATCH).statistics == volume.statistics == opened.statistics
    assert len(reads) == 3


def test_the_labelled_and_the_unlabelled_target_of_a_joint_training_have_the_same_statistics(volumes):
    domains = open_domains(resolved(volumes, JOINT))
    assert domains.joint.statistics == domains.target.statistics


def test_an_image_with_values_that_are_not_finite_is_named(volumes):
    opened = open_domain(domain(volumes), Sampling(), "--config.source", with_labels=True)
    pixels = np.zeros((3, 40, 60), np.float32)
    pixels[2, 3, 4] = np.nan
    with pytest.raises(InputError, match=r"^--config\.source\.image: .*not finite in section 2$"):
        training_region(dataclasses.replace(opened, image=ts.array(pixels)), PATCH)


# --- Labels ---


def test_classes_are_those_of_a_box_and_need_labels(volumes):
    volume = open_domain(domain(volumes, foreground=">=1"), Sampling(), "--config.source", with_labels=True)
    box = Box((1, 2, 30), (3, 20, 60))
    np.testing.assert_array_equal(volume.classes(box), (volumes["pixels"] // 100 >= 1)[box.slices])
    with pytest.raises(ValueError, match="opened without labels"):
        open_domain(domain(volumes), Sampling(), "--config.source", with_labels=False).classes(box)


def test_classes_above_the_models_are_refused(volumes):
    volume = open_domain(domain(volumes, foreground="classes", test_fraction=0.2), Sampling(), "--config.source",
                         with_labels=True)
    with pytest.raises(InputError, match=r"--config\.model\.classes=2: must be above 2, a label in section 1 of"
                                         r" --config\.source\.labels$"):
        check_classes(volume, 2, [Box((1, 0, 0), (3, 40, 60))])
    check_classes(volume, 3, [Box((0, 0, 0), (3, 40, 60))])
    check_classes(volume, 2, [Box((0, 0, 0), (3, 40, 0))])  # nothing is in it
    above_0 = dataclasses.replace(volume, rule=label_rule(">0", "", "--config.source"))  # any value is background or foreground
    check_classes(above_0, 2, [Box((0, 0, 0), (3, 40, 60))])


@pytest.mark.parametrize(("section", "column", "refused"), [(0, 3, True), (1, 35, True), (2, 59, False)],
                         ids=["train", "validation", "test"])
def test_wrong_classes_of_the_source_are_found_where_they_are_trained_on_or_validated_but_not_in_its_test_box(
        volumes, section, column, refused):
    config = resolved(volumes)
    domains, labels = open_domains(config), np.zeros((3, 40, 60), np.uint8)
    labels[section, 7, column] = 9
    rule = label_rule("classes", "", "--config.source")
    domains = domains._replace(labelled=dataclasses.replace(domains.labelled, labels=ts.array(labels), rule=rule))
    if refused:
        with pytest.raises(InputError, match=rf"must be above 9, a label in section {section} of"):
            training_regions(config, domains)
    else:
        training_regions(config, domains)


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_of_a_joint_trainings_target_no_label_is_read_but_those_that_are_listed(volumes, kind):
    """Neither those of its validation box, nor to see what classes there are."""
    config = resolved(volumes, JOINT)
    domains = open_domains(config)
    labels, reads = counted(np.ones((3, 40, 60), np.uint8), chunk=(1, 1, 1))
    rule = label_rule("classes", "", "--config.target")  # under which labels are looked at before the training
    domains = domains._replace(joint=dataclasses.replace(domains.joint, labels=labels, rule=rule))
    regions = training_regions(config, domains)
    reader = make_reader(regions, sampling=dataclasses.replace(config.sampling, reader=kind), sections=1, seed=0)
    for step in range(3):
        assert "joint_labels" in reader.batch(step)
    listed, read = np.zeros((3, 40, 60), bool), np.zeros((3, 40, 60), bool)
    for text in config.target_labels.boxes:
        listed[parse_region(text, listed.shape).slices] = True
    for index in reads:
        read[index] = True
    assert read.any()
    assert not (read & ~listed).any()
    assert (~listed[:, :, :30]).any()  # of the training box, which has 30 columns


# --- Regions ---


def test_the_region_is_the_training_box_alone(volumes):
    volume = open_domain(domain(volumes, validation_fraction=0.25, test_fraction=0.25), Sampling(), "--config.source",
                         with_labels=True)
    # 30 of 60 columns of 5 nm are 15 of 10 nm, the last of which takes a part of the column behind.
    assert training_region(volume, PATCH).box == Box((0, 0, 0), (3, 20, 14))


@pytest.mark.parametrize(("use", "names"), [(NONE, {"labelled", "target"}), (JOINT, {"labelled", "target", "joint"}),
                                            (ONLY, {"labelled", "target"})])
def test_regions_have_the_labels_that_their_use_allows(volumes, use, names):
    config = resolved(volumes, use)
    regions = training_regions(config, open_domains(config))
    assert set(regions) == names
    assert regions["target"].labels is None
    with pytest.raises(ValueError, match=r"^labels: must be opened"):
        _ = regions["target"].truth
    assert regions["labelled"].truth == (regions["labelled"].labels, regions["labelled"].rule)
    parts = regions["joint" if use == JOINT else "labelled"].parts
    assert (parts is not None) == (use != NONE)
    for part in parts or ():
        assert regions["target"].box.contains(part)
        assert min(part.shape[1:]) >= PATCH


def test_a_part_outside_the_training_box_is_refused(volumes):
    volume = open_domain(domain(volumes, test_fraction=0.5), Sampling(), "--config.target", with_labels=True)
    with pytest.raises(InputError, match=r"--config\.target_labels\.boxes=0:1,0:40,20:40: must lie in 0:3,0:40,0:30, the training"
                                         r" box of --config\.target\.image"):
        training_region(volume, PATCH, (Box((0, 0, 20), (1, 40, 40)),))


@pytest.mark.parametrize("parts", [None, (Box((0, 0, 0), (3, 40, 60)), Box((1, 0, 0), (2, 19, 60)))])
def test_a_patch_that_does_not_fit_is_named(volumes, parts):
    volume = open_domain(domain(volumes), Sampling(), "--config.target", with_labels=True)
    largest = 20 if parts is None else 9  # 19 rows of 5 nm
    assert training_region(volume, largest, parts).largest_patch == largest
    with pytest.raises(InputError, match=rf"--config\.sampling\.patch_size={largest + 1}: must be at most {largest}, the smaller"
                                         r" side of the training region of --config\.target\.image"):
        training_region(volume, largest + 1, parts)


@pytest.mark.parametrize("boxes", [("0:1,0:40,20:40",), ("0:1,0:40,0:30", "2:4,:,:"), ("0:1,0:40",)])
def test_boxes_that_are_no_part_of_the_training_box_name_their_knob(volumes, boxes):
    config = resolved(volumes, target_labels=TargetLabels(JOINT, boxes=boxes))
    with pytest.raises(InputError, match=r"^--config\.target_labels\.boxes=") as caught:
        training_regions(config, open_domains(config))
    assert boxes[-1] in str(caught.value)
    assert "\n" not in str(caught.value)


# --- Which labels are listed ---


def test_labels_are_chosen_once_and_only_where_some_are_asked_for(volumes):
    chosen = resolved(volumes, JOINT)
    assert chosen.target_labels.boxes
    assert listed_target_labels(chosen) == chosen.target_labels
    unused = dataclasses.replace(chosen, target_labels=TargetLabels(), target=Domain())  # which could not be opened
    assert listed_target_labels(unused).boxes == ()
    none = dataclasses.replace(unused, target_labels=TargetLabels(ONLY, 0.0), optimizer=Optimizer(steps=0))
    assert listed_target_labels(none).boxes == ()


def test_the_start_of_a_fine_tuning_holds_in_any_folder(volumes):
    config = resolved(volumes)
    started = dataclasses.replace(config, target_labels=TargetLabels(ONLY, 0.0, start="run"))
    assert listed_target_labels(started).start == str(Path("run").absolute())


# --- Volumes given on the command line ---


def test_a_given_volume_of_the_config_has_what_the_config_says_of_it(volumes):
    config = resolve(Experiment(source=domain(volumes, image="phantom://source/image", labels="", foreground="==3"),
                                target=domain(volumes, foreground=">=1")))
    assert given_domain(config, volumes["image"]) == config.target
    assert given_domain(config, volumes["image"], pixel_size_nm=7.0, foreground=">0").pixel_size_nm == 7.0
    assert given_domain(config, volumes["image"], labels=volumes["labels"]) == config.target
    assert given_domain(config, volumes["labels"]).pixel_size_nm == 5.0  # as the file says
    with pytest.raises(InputError, match="--pixel_size_nm is missing"):
        given_domain(config, volumes["labels"], metadata=IGNORED)
    with pytest.raises(InputError, match=r"^--image=/missing\.zarr: no such file"):
        given_domain(config, "/missing.zarr")
    with pytest.raises(InputError, match=r"--pixel_size_nm=-1\.0: must be above 0"):
        given_domain(config, volumes["image"], pixel_size_nm=-1.0)
    with pytest.raises(InputError, match=r"--foreground='some'"):
        given_domain(config, volumes["image"], foreground="some")


def test_what_the_config_says_of_its_labels_does_not_hold_for_others(volumes):
    config = resolved(volumes, target=domain(volumes, foreground="==3", unlabelled="==7"))
    own, other = (given_domain(config, volumes["image"], labels=labels) for labels in (volumes["labels"], volumes["image"]))
    assert (own.foreground, own.unlabelled) == ("==3", "==7")
    assert (other.foreground, other.unlabelled, other.pixel_size_nm) == (">0", "", 5.0)
    assert given_domain(config, volumes["image"], labels=volumes["image"], foreground="==1").foreground == "==1"


@pytest.mark.parametrize("name", ["source", "target"])
def test_an_own_domain_is_opened_on_the_configs_grid_and_has_its_flags(volumes, name):
    config = resolved(volumes, **{name: domain(volumes, labels=volumes["labels"] + ".gone")})
    volume = open_own_domain(config, name, with_labels=False)
    assert (volume.flag, volume.grid.working_pixel_size_nm) == (f"--config.{name}.image", 10.0)
    with pytest.raises(InputError, match=rf"^--config\.{name}\.labels="):
        open_own_domain(config, name, with_labels=True)
