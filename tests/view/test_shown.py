"""yseg.view.shown: which volumes are shown, how large their voxels are, and where they lie."""

import numpy as np
import pytest
import tiny

from yseg.config import Domain, InputError
from yseg.config_json import to_json
from yseg.runs.history import SEGMENTED, record
from yseg.runs.resolve import resolve
from yseg.view.shown import of_image, of_run
from yseg.volumes.create import create_volume
from yseg.volumes.opened import VolumeNotice
from yseg.volumes.volume import open_volume

IMAGE = "phantom://target/image?shape=3,64,96&seed=2"


def write(path, values, pixel_size_nm, kind="classes", **options):
    with create_volume(str(path), values.shape, values.dtype, pixel_size_nm, kind=kind, **options) as store:
        store[...] = values
    return str(path)


def run(folder, **fields):
    folder.mkdir()
    (folder / "config.json").write_text(to_json(resolve(tiny.experiment(**fields))))
    return str(folder)


def whole(shown):
    """The finest level."""
    level = shown.levels.levels[0]
    return np.concatenate([shown.levels.chunk(0, (z, 0, 0)) for z in range(-(-level.shape[0] // 16))])


def test_of_a_run_are_shown_its_target_the_truth_as_classes_and_what_is_given(tmp_path):
    values = np.ones((3, 64, 96), np.uint8)
    spec = write(tmp_path / "s.n5", values, 10.0)
    target = tiny.domain("target", test_fraction=0.3, foreground="==0", unlabelled=">200", section_nm=40.0)
    image, truth, prediction = of_run(run(tmp_path / "run", target=target), {"segmentation": spec})
    assert [one.name for one in (image, truth, prediction)] == ["image", "truth", "prediction"]
    assert {one.header.voxel_nm for one in (image, truth, prediction)} == {(40.0, 10.0, 10.0)}
    np.testing.assert_array_equal(whole(image), open_volume(IMAGE).read().result())
    labels = open_volume(IMAGE.replace("image", "labels")).read().result()
    assert set(np.unique(labels)) == {0, 1}
    np.testing.assert_array_equal(whole(truth), labels == 0)
    np.testing.assert_array_equal(whole(prediction), values)


def test_of_a_run_that_has_segmented_its_target_the_last_output_that_is_there_is_shown(tmp_path):
    workdir = run(tmp_path / "run")
    values = np.full((3, 64, 96), 7, np.uint32)
    spec = write(tmp_path / "objects.zarr", values, 10.0, kind="instances")
    record(tmp_path / "run", SEGMENTED, image="other.tif", outputs={"classes": spec})
    assert [one.name for one in of_run(workdir, {})] == ["image", "truth"]
    record(tmp_path / "run", SEGMENTED, image=IMAGE, outputs={"instances": spec})
    assert [one.name for one in of_run(workdir, {})] == ["image", "truth", "instances"]
    np.testing.assert_array_equal(whole(of_run(workdir, {})[2]), values)
    assert [one.name for one in of_run(workdir, {"probability": spec})] == ["image", "truth", "probability"]
    record(tmp_path / "run", SEGMENTED, image=IMAGE, outputs={"instances": str(tmp_path / "moved.zarr")})
    assert [one.name for one in of_run(workdir, {})] == ["image", "truth"]


def test_labels_that_are_given_are_shown_as_they_are_stored(tmp_path):
    spec = write(tmp_path / "s.n5", np.full((3, 64, 96), 200, np.uint8), 10.0, "labels")
    shown = of_run(run(tmp_path / "run"), {"labels": spec, "instances": ""})
    assert [one.name for one in shown] == ["image", "truth"]
    assert (whole(shown[1]) == 200).all()
    unlabelled = run(tmp_path / "other", target=tiny.domain("target", labels="", foreground="", test_fraction=0.0))
    assert [one.name for one in of_run(unlabelled, {})] == ["image"]


def test_a_part_lies_where_it_was_cut_and_has_its_own_size(tmp_path):
    image = write(tmp_path / "a.zarr", np.zeros((6, 100, 120), np.uint8), 5.0, "image", section_nm=20.0, start=(100, 50, 0))
    part = write(tmp_path / "p.zarr", np.zeros((2, 30, 40), np.uint8), 10.0, section_nm=20.0, start=(102, 30, 5))
    shown = of_image(Domain(image=image), {"segmentation": part})
    assert [one.header.voxel_nm for one in shown] == [(20, 5, 5), (20, 10, 10)]
    assert [list(one.header.start) for one in shown] == [[100, 50, 0], [102, 30, 5]]


def test_voxels_of_the_same_shape_are_those_of_the_image_whatever_their_file_says(tmp_path):
    image = write(tmp_path / "a.n5", np.zeros((3, 30, 40), np.uint8), 5.0, "image", section_nm=20.0, start=(7, 0, 0))
    other = write(tmp_path / "b.n5", np.zeros((3, 30, 40), np.uint8), 4.0, section_nm=10.0)
    shown = of_image(Domain(image=image), {"segmentation": other})
    assert shown[0].header.voxel_nm == shown[1].header.voxel_nm == (20, 5, 5)
    assert list(shown[1].header.start) == [7, 0, 0]


def test_sizes_that_the_image_does_not_say_are_those_that_another_says(tmp_path):
    spec = write(tmp_path / "s.zarr", np.zeros((3, 64, 96), np.uint8), 6.0, section_nm=30.0)
    shown = of_image(Domain(image=IMAGE), {"segmentation": spec})
    assert {one.header.voxel_nm for one in shown} == {(30.0, 6.0, 6.0)}
    with pytest.warns(VolumeNotice, match=r"^--image=phantom.*: says no pixel size, so a pixel is shown as 1 nm; give --pixel"):
        (image,) = of_image(Domain(image=IMAGE), {})
    assert image.header.voxel_nm == (1.0, 1.0, 1.0)


def test_a_part_that_does_not_say_where_it_lies_is_told_of(tmp_path):
    spec = write(tmp_path / "s.tif", np.zeros((3, 20, 30), np.uint8), 10.0)
    with pytest.warns(VolumeNotice, match=r"^--segmentation=.*has another shape, 3 x 20 x 30, than the image, 3 x 64 x 96, and"):
        shown = of_image(Domain(image=IMAGE, pixel_size_nm=10.0), {"segmentation": spec})
    assert list(shown[1].header.start) == [0, 0, 0]


def test_the_values_of_a_probability_that_is_stored_in_whole_numbers_are_all_of_its_type(tmp_path):
    image = Domain(image=IMAGE, pixel_size_nm=10.0)
    for dtype, values in ((np.float32, (0, 1)), (np.uint8, (0, 255)), (np.uint16, (0, 65535))):
        spec = write(tmp_path / f"{np.dtype(dtype).name}.n5", np.zeros((3, 64, 96), dtype), 10.0, "probability")
        assert of_image(image, {"probability": spec})[1].values == values


def test_what_cannot_be_shown_is_an_error_of_one_line(tmp_path):
    with pytest.raises(InputError, match=r"^--workdir=.*is not the folder of a run"):
        of_run(str(tmp_path), {})
    with pytest.raises(InputError, match=r"^--segmentation=.*no such file"):
        of_image(Domain(image=IMAGE, pixel_size_nm=10.0), {"segmentation": str(tmp_path / "missing.zarr")})
    spec = write(tmp_path / "a.n5", np.zeros((3, 20, 30), np.uint8), 10.0, "image")
    with pytest.raises(InputError, match="--pixel_size_nm=5"):
        of_image(Domain(image=spec, pixel_size_nm=5.0), {})
    gone = run(tmp_path / "run", target=tiny.domain("target", image=spec, labels="", foreground="", test_fraction=0.0))
    (tmp_path / "a.n5").rename(tmp_path / "b.n5")
    with pytest.raises(InputError, match=r"it was the run's target image: give --data_dir or --target_image"):
        of_run(gone, {})
    assert of_run(gone, {}, {"target.image": str(tmp_path / "b.n5")})[0].shape == (3, 20, 30)
