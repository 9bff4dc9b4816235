"""From the config's domains to opened volumes and training regions."""

import numpy as np
import pytest

from yseg.config import Domain, Experiment, InputError, Sampling
from yseg.data.box import Box, evenly_spaced
from yseg.data.domain import given_domain, image_statistics, open_domain, resolve, training_region
from yseg.volumes.volume import create_volume


def written(path, image):
    with create_volume(str(path), image.shape, image.dtype, 5.0) as store:
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


def test_statistics_are_of_the_whole_image_and_the_region_is_the_training_box_alone(volumes):
    config = Experiment(sampling=Sampling(patch_size=8))
    volume = open_domain(domain(volumes, validation_fraction=0.25, test_fraction=0.25), 10.0, "--config.source", with_labels=True)
    region = training_region(volume, config)
    pixels = volumes["pixels"].astype(np.float64)
    np.testing.assert_allclose(region.statistics, (pixels.mean(), pixels.std()), rtol=1e-6)
    assert region.statistics == image_statistics(volume)
    # 30 of 60 columns of 5 nm are 15 of 10 nm, the last of which takes a part of the column behind.
    assert region.box == Box((0, 0, 0), (3, 20, 14))


def test_labels_are_not_opened_unless_they_are_needed(volumes):
    missing = domain(volumes, labels=volumes["labels"] + ".gone")
    assert open_domain(missing, 10.0, "--config.target", with_labels=False).labels is None
    with pytest.raises(InputError, match=r"--config\.target\.labels="):
        open_domain(missing, 10.0, "--config.target", with_labels=True)


def test_a_part_outside_the_training_box_is_refused(volumes):
    volume = open_domain(domain(volumes, test_fraction=0.5), 10.0, "--config.target", with_labels=True)
    with pytest.raises(InputError, match=r"--config\.finetuning\.boxes=0:1,0:40,20:40: must lie in 0:3,0:40,0:30"):
        training_region(volume, Experiment(sampling=Sampling(patch_size=8)), (Box((0, 0, 20), (1, 40, 40)),))


def test_classes_above_the_models_are_refused(volumes):
    volume = open_domain(domain(volumes, foreground="classes"), 10.0, "--config.source", with_labels=True)
    with pytest.raises(InputError, match=r"--config\.model\.classes=2: must be above 2, a label in section 0 of"):
        training_region(volume, Experiment(sampling=Sampling(patch_size=8)))


def test_a_given_volume_of_the_config_has_what_the_config_says_of_it(volumes):
    config = resolve(Experiment(source=domain(volumes, image="phantom://source/image", labels="", foreground="==3"),
                                target=domain(volumes, foreground=">=1")))
    assert given_domain(config, volumes["image"], None, None, None) == config.target
    assert given_domain(config, volumes["image"], None, 7.0, ">0").pixel_size_nm == 7.0
    with pytest.raises(InputError, match="--pixel_size_nm is missing"):
        given_domain(config, volumes["labels"], None, None, None)
    with pytest.raises(InputError, match=r"--pixel_size_nm=-1\.0: must be above 0"):
        given_domain(config, volumes["image"], None, -1.0, None)


@pytest.mark.parametrize(("start", "stop", "count"), [(0, 3, 5), (2, 20, 4), (5, 1000, 32)])
def test_evenly_spaced_numbers_differ_and_lie_inside(start, stop, count):
    numbers = evenly_spaced(start, stop, count)
    assert len(set(numbers)) == len(numbers) == min(count, stop - start)
    assert all(start <= number < stop for number in numbers)
    if len(numbers) > 1:
        assert np.ptp(np.diff(numbers)) <= 1
