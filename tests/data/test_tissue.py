"""yseg.data.tissue: masks that are given or found, the box around tissue, and what becomes of the rest of a volume."""

import dataclasses
import warnings

import numpy as np
import pytest
import tensorstore as ts
import tifffile

from yseg.config import Domain, InputError, Sampling
from yseg.data.box import Box
from yseg.data.domain import open_domain, training_region
from yseg.data.patches import ENOUGH, make_reader
from yseg.data.tissue import find_tissue, frame_of
from yseg.volumes.opened import OpenedVolume, VolumeNotice

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.normal(120, 25, (6, 60, 80)).clip(1, 254).astype(np.uint8)
LABELS = (RANDOM.random((6, 60, 80)) < 0.3).astype(np.uint8)
TOP, LEFT = 25, 40  # rows and columns of a frame
Y, X = np.mgrid[:60, :80]
ROUND = np.stack([(Y - 30 - z) ** 2 + (X - 40) ** 2 < 26**2 for z in range(6)])  # another place in each section


def framed(array, value=0):
    return np.pad(array, ((1, 2), (TOP, 30), (LEFT, 15)), constant_values=value)


@pytest.fixture
def files(tmp_path):
    """`save(**arrays)` -> the paths of TIFF files with them, by name."""
    def save(**arrays):
        for name, array in arrays.items():
            tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack")
        return {name: str(tmp_path / f"{name}.tif") for name in arrays}

    return save


def opened(paths, sampling=None, **fields):
    domain = Domain(**{"pixel_size_nm": 8.0, "test_fraction": 0.25, "foreground": ">0"} | paths | fields)
    return open_domain(domain, sampling or Sampling(working_pixel_size_nm=8.0), "--config.source", "labels" in paths)


# --- A frame ---


@pytest.mark.parametrize(("value", "mask"), [(0, "border"), (255, "border"), (0, "nodata=0"), (255, "nodata=0,"), (0, "volume")])
@pytest.mark.parametrize("normalization", ["volume", "section", "local"])
def test_the_same_tissue_with_and_without_a_frame_is_the_same_volume(files, value, mask, normalization):
    paths = files(image=framed(IMAGE, value), labels=framed(LABELS), plain=IMAGE, truth=LABELS,
                  tissue=framed(np.ones_like(IMAGE)))
    mask = {"volume": paths["tissue"], "nodata=0,": "nodata=255"}.get(mask, mask)
    sampling = Sampling(working_pixel_size_nm=11.0, normalization=normalization, local_nm=80.0)
    found = opened({"image": paths["image"], "labels": paths["labels"], "mask": mask}, sampling)
    plain = opened({"image": paths["plain"], "labels": paths["truth"]}, sampling)
    assert found.place == Box((1, TOP, LEFT), (7, TOP + 60, LEFT + 80))
    assert found.file_shape == (9, TOP + 90, LEFT + 95)
    assert found.mask is None  # of the box around it
    assert (found.grid, found.split, found.statistics, found.spacing_nm) == (
        plain.grid, plain.split, plain.statistics, plain.spacing_nm)
    np.testing.assert_array_equal(found.image.read().result(), plain.image.read().result())
    whole = Box.whole(plain.image.shape)
    np.testing.assert_array_equal(found.classes(whole), plain.classes(whole))
    in_files = found.classes_in_files(Box.whole(found.file_shape))
    np.testing.assert_array_equal(in_files, np.where(framed(np.ones_like(IMAGE)), framed(LABELS).astype(int), -1))


def test_each_section_has_its_own_frame_of_its_own_grey_level():
    section = IMAGE[0].copy()
    assert not frame_of(section).any()
    section[:5] = section[:, -7:] = 9  # as after a shift
    expected = np.zeros(section.shape, bool)
    expected[:5] = expected[:, -7:] = True
    section[30:40, 30:40] = 9  # of the same grey level, but inside
    np.testing.assert_array_equal(frame_of(section), expected)
    turned = np.where(np.abs(Y - 30) + np.abs(X - 40) < 45, IMAGE[1], 0)  # a corner everywhere
    np.testing.assert_array_equal(frame_of(turned), np.abs(Y - 30) + np.abs(X - 40) >= 45)
    assert frame_of(np.zeros((9, 9))).all()  # a section that was lost
    with_nan = IMAGE[2].astype(np.float32)
    with_nan[:, :3] = np.nan
    np.testing.assert_array_equal(frame_of(with_nan), np.isnan(with_nan))
    dark = IMAGE[3].copy()
    dark[0, 10:14] = 0  # too short for a frame
    assert not frame_of(dark).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("mask", ["volume", "nodata=0", "border"])
def test_where_there_is_no_tissue_the_image_is_grey_and_nothing_is_labelled(files, dtype, mask):
    image = np.where(ROUND, IMAGE, 0).astype(dtype)
    paths = files(image=image, labels=LABELS, tissue=ROUND.astype(np.uint8) * 200)
    found = opened({"image": paths["image"], "labels": paths["labels"], "mask": paths["tissue"] if mask == "volume" else mask})
    rows, columns = (np.flatnonzero(ROUND.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    box = Box((0, int(rows[0]), int(columns[0])), (6, int(rows[-1]) + 1, int(columns[-1]) + 1))
    assert found.place == box
    inside, pixels = ROUND[box.slices], image[box.slices].astype(np.float64)
    mean, deviation = pixels[inside].mean(), pixels[inside].std()
    image_found, (own_mean, own_deviation) = found.image.read().result(), found.statistics
    scored = (image_found.astype(np.float64) - own_mean) / own_deviation
    np.testing.assert_allclose(scored[inside], ((pixels - mean) / deviation)[inside], atol=1e-5)
    assert np.abs(scored[~inside]).max() <= 0.5 / deviation + 1e-6  # a grey level is a whole number
    classes = found.classes(Box.whole(found.image.shape))
    np.testing.assert_array_equal(classes, np.where(inside, LABELS[box.slices].astype(int), -1))


def test_a_frame_that_is_taken_for_tissue_is_said(files):
    paths = files(framed=framed(IMAGE), plain=IMAGE)
    frame = 1 - IMAGE.size / framed(IMAGE).size
    told = r"% of --config\.source\.image is a frame of one grey level, .*; --config\.source\.mask=border leaves it out$"
    with pytest.warns(VolumeNotice, match=told) as said:
        opened({"image": paths["framed"]})
    assert float(str(said[0].message).split("%")[0]) == pytest.approx(100 * frame, abs=15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened({"image": paths["framed"]}, mask="border")
        opened({"image": paths["plain"]})


def test_a_mask_of_other_sections_is_named(tmp_path):
    for name, numbers in (("image", (1, 2)), ("mask", (2, 3))):
        (tmp_path / name).mkdir()
        for number in numbers:
            tifffile.imwrite(tmp_path / name / f"{number}.tif", np.ones((60, 80), np.uint8))
    domain = Domain(image=str(tmp_path / "image"), mask=str(tmp_path / "mask"), pixel_size_nm=8.0)
    with pytest.raises(InputError, match=r"^--config\.source\.mask: .*\.source\.image alone has 1; .*\.source\.mask alone has 3"):
        open_domain(domain, Sampling(), "--config.source", with_labels=False)


def test_a_mask_that_cannot_be_meant_is_named(files):
    paths = files(image=IMAGE, small=LABELS[:, 1:], empty=LABELS * 0)
    for mask, what in ((paths["small"], r"mask: shape 6 x 59 x 80 differs"), (paths["empty"], "mask=.*leaves no voxel of tissue"),
                       ("nodata=x", "mask=nodata=x: must be nodata= and a grey level"), ("/gone.tif", "mask=/gone.tif: no such")):
        with pytest.raises(InputError, match=rf"^--config\.source\.{what}"):
            opened({"image": paths["image"], "mask": mask})
    assert opened({"image": paths["image"], "mask": "nodata=300"}).place is None  # in 8 bits there is none


# --- Values that are not finite ---


def holed(value=np.nan):
    """A float image in which a section is lost that the statistics leave out, and its number."""
    image = np.concatenate([IMAGE] * 8).astype(np.float32)
    number = next(number for number in range(1, 48) if number not in np.linspace(0, 47, 32).round())
    image[number, 3:9] = value
    return image, number


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["resident", "streaming"])
@pytest.mark.parametrize("working_nm", [8.0, 11.0])
def test_values_that_are_not_finite_are_named_wherever_they_are_read(files, value, kind, working_nm):
    image, number = holed(value)
    sampling = Sampling(patch_size=16, batch_size=4, reader=kind, working_pixel_size_nm=working_nm)
    volume = opened(files(image=image), sampling)
    assert np.isfinite(volume.statistics).all()

    def read():
        reader = make_reader({"target": training_region(volume, 16)}, sampling=sampling, sections=1, seed=0)
        for step in range(200):
            reader.batch(step)

    with pytest.raises(InputError, match=r"^--config\.source\.image=.*image\.tif: has values that are not finite in section"
                                         rf" {number}; must be numbers, or give --config\.source\.nan=unlabelled"):
        read()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_not_finite_may_be_no_tissue(files, dtype):
    image, number = holed()
    paths = files(image=image.astype(dtype), labels=np.concatenate([LABELS] * 8))
    volume = opened(paths, nan="unlabelled")
    assert np.isfinite(volume.image.read().result()).all()
    classes = volume.classes(Box.whole(image.shape))
    assert (classes[number, 3:9] == -1).all()
    np.testing.assert_array_equal(classes >= 0, np.isfinite(image))
    whole = files(whole=np.delete(image, number, axis=0).astype(dtype))["whole"]
    assert opened({"image": whole}, nan="unlabelled").mask is None
    both = opened(paths, nan="unlabelled", mask="nodata=120")
    np.testing.assert_array_equal(both.mask.read().result() != 0, np.isfinite(image) & (image != 120))


# --- Patches ---


@pytest.fixture
def regions(files):
    """Regions of a volume whose tissue is round and in one half of its sections."""
    paths = files(image=IMAGE, labels=LABELS, tissue=(ROUND & (X < 45)).astype(np.uint8))
    volume = opened(paths | {"mask": paths.pop("tissue")}, Sampling(working_pixel_size_nm=9.0))
    assert volume.mask is not None
    return {"labelled": training_region(volume, 16), "target": training_region(dataclasses.replace(volume, labels=None), 16)}


def batches(regions, kind, steps=5, **fields):
    sampling = Sampling(patch_size=16, batch_size=4, reader=kind, working_pixel_size_nm=9.0)
    reader = make_reader(regions, sampling=sampling, sections=3, seed=0, **fields)
    return [{name: np.asarray(values) for name, values in reader.batch(step).items()} for step in range(steps)]


def test_patches_hold_tissue_and_are_the_same_whoever_reads_them(regions):
    resident, streaming = (batches(regions, kind, 20) for kind in ("resident", "streaming"))
    for one, other in zip(resident, streaming, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    labelled = np.concatenate([batch["labels"].reshape(-1, 16 * 16) >= 0 for batch in resident])
    shares = labelled.mean(axis=1)
    assert (shares > 0.9 * ENOUGH).all()  # on the working grid a label's majority decides, and not the mask's
    assert (shares < 1).any()


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_a_mask_that_is_all_tissue_changes_no_patch(regions, kind):
    plain = {name: region._replace(mask=None) for name, region in regions.items()}
    masked = {name: region._replace(mask=ts.array(np.ones(region.image.shape, np.uint8))) for name, region in regions.items()}
    for one, other in zip(batches(plain, kind), batches(masked, kind), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_the_largest_volumes_are_not_looked_at_before_they_are_read(monkeypatch):
    image = np.pad(IMAGE, ((0, 0), (5, 5), (5, 5)))
    monkeypatch.setattr("yseg.data.tissue.LARGEST", image.size - 1)
    tissue = find_tissue(OpenedVolume(ts.array(image)), "border", "error", image_flag="--image", mask_flag="--mask")
    assert tissue.box == Box.whole(image.shape)
    assert tissue.mask is not None
    np.testing.assert_array_equal(tissue.mask.read().result(), image != 0)
