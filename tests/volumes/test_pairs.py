"""Where files say that their volumes lie: what is read of it, and what is said of an image and labels that lie apart."""

import json

import nibabel
import numpy as np
import pytest
import tensorstore as ts
import zarr

from yseg.volumes.opened import OpenedVolume
from yseg.volumes.pairs import check_pair
from yseg.volumes.volume import read_volume

VALUES = np.random.default_rng(0).integers(0, 255, (3, 20, 30), np.uint8)
SIZES = (50.0, 4.0, 4.0)
UNKNOWN = (None, None, None)


def note(image, labels):
    """What is said of a pair."""
    return check_pair(image, labels, "--image", "--labels")


def at(*start, sizes=SIZES, directions=("", "", "")):
    return OpenedVolume(ts.array(VALUES), sizes, start=start, directions=directions)


def precomputed(folder, offset, sizes=SIZES):
    """The path of a precomputed volume that TensorStore has written."""
    scale = {"size": VALUES.shape[::-1], "resolution": sizes[::-1], "voxel_offset": offset[::-1], "encoding": "raw",
             "chunk_size": [64, 64, 64]}
    store = ts.open({"driver": "neuroglancer_precomputed", "kvstore": f"file://{folder}/", "scale_metadata": scale,
                     "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1}}, create=True).result()
    store[..., 0].T[ts.d[:].translate_to[0]] = VALUES
    return str(folder)


def ome(folder, steps, whole=(), axes="zyx", unit="nanometer", version=3):
    """The path of an OME-Zarr image with a level for each list of (type, numbers), and one list of the whole image."""
    group = zarr.open_group(folder, mode="w", zarr_format=version)
    transformations = [[{"type": kind, kind: list(numbers)} for kind, numbers in each] for each in (*steps, whole)]
    for number in range(len(steps)):
        group.create_array(str(number), shape=VALUES.shape, dtype="u1")[...] = VALUES
    image = {"axes": [{"name": name, "type": "space", "unit": unit} for name in axes], "datasets": [
        {"path": str(number), "coordinateTransformations": each} for number, each in enumerate(transformations[:-1])],
        **({"coordinateTransformations": transformations[-1]} if whole else {})}
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [image]}} if version == 3 else {"multiscales": [image]})
    return str(folder)


def nifti(path, affine, values=VALUES, code="sform"):
    """The path of a NIfTI file of sizes in micrometres, so that 1 of the affine is 1000 nm."""
    image = nibabel.Nifti1Image(values.T, affine)
    image.header.set_xyzt_units("micron")
    for name in ("sform", "qform"):
        getattr(image, f"set_{name}")(affine, int(name == code))
    nibabel.save(image, path)
    return str(path)


# --- What is read ---


def test_the_offset_of_a_precomputed_volume_is_read(tmp_path):
    path = precomputed(tmp_path / "a.precomputed", (30, 200, -100))
    assert read_volume(path).start == (30, 200, -100)
    info = json.loads((tmp_path / "a.precomputed" / "info").read_text())
    del info["scales"][0]["voxel_offset"]
    (tmp_path / "a.precomputed" / "info").write_text(json.dumps(info))
    assert read_volume(path).start == UNKNOWN


@pytest.mark.parametrize("version", [2, 3])
def test_translations_of_ome_zarr_are_read_for_each_level(tmp_path, version):
    scales = [("scale", (50, 4, 4)), ("scale", (50, 8, 8))]
    path = ome(tmp_path / "a.zarr", [[scales[0], ("translation", (1000, 40, 80))], [scales[1], ("translation", (1000, 42, 82))]],
               version=version)
    assert read_volume(path).start == (20, 10, 20)
    assert read_volume(path, near_nm=8).start == read_volume(f"{path}/1").start == (20, 5.25, 10.25)
    path = ome(tmp_path / "b.zarr", [[scales[0], ("translation", (10, 4, 0))]], version=version, unit="micrometer",
               whole=[("scale", (0.001, 0.002, 0.002)), ("translation", (1, 0, 0.016))])  # is applied after the level's own
    opened = read_volume(path)
    assert opened.voxel_nm == (50, 8, 8)
    assert opened.start == pytest.approx((20.2, 1, 2))
    assert read_volume(ome(tmp_path / "c.zarr", [scales[:1]], version=version)).start == UNKNOWN
    path = ome(tmp_path / "d.zarr", [[("scale", (4, 4, 50)), ("translation", (80, 40, 1000))]], axes="xyz", version=version)
    assert read_volume(path).start == (20, 10, 20)
    path = ome(tmp_path / "e.zarr", [[scales[0], ("translation", (float("nan"), float("inf"), 1e300))]], version=version)
    assert read_volume(path).start == UNKNOWN


@pytest.mark.parametrize("code", ["sform", "qform"])
def test_nifti_says_where_it_starts_along_its_axes_and_what_they_run_to(tmp_path, code):
    affine = np.diag([-4.0, -4.0, 50.0, 1.0])
    affine[:3, 3] = 80, 40, 1000
    opened = read_volume(nifti(tmp_path / "a.nii", affine, code=code))
    assert (opened.start, opened.directions) == ((20, -10, -20), ("S", "P", "L"))
    assert read_volume(nifti(tmp_path / "b.nii", affine, code=None)).directions == ("", "", "")
    assert read_volume(str(tmp_path / "b.nii")).start == UNKNOWN
    opened = read_volume(nifti(tmp_path / "c.nii", affine[[1, 2, 0, 3]], code=code))
    assert (opened.start, opened.directions) == ((20, -10, -20), ("A", "L", "I"))


# --- What is said ---


@pytest.mark.parametrize("other", [(20, 10, 30), UNKNOWN, (None, 10, 30), (20.5, 10, 30), (20, 9.5, 30), (20, 10, 30.5)])
def test_nothing_is_said_of_the_same_place_or_where_one_file_says_none(other):
    assert note(at(20, 10, 30), at(*other)) == note(at(*other), at(20, 10, 30)) == ""
    assert note(at(20, 10, 30), at(99, 99, 99, sizes=UNKNOWN)) == ""


def test_half_a_voxel_is_that_of_the_coarser_volume():
    fine, coarse = at(0, 0, 0), at(0, 0.5, 0.5, sizes=(50.0, 16.0, 16.0))
    assert note(fine, coarse) == ""
    assert note(fine, at(0, 2, 2)) == ("--labels starts at 0, 8, 8 nm, and --image at 0, 0, 0 nm (z, y, x), as their files say;"
                                       " voxels are paired as they are stored")


@pytest.mark.parametrize("other", [(21, 10, 30), (20, 10.6, 30), (20, 10, 0), (None, 0, 0)])
def test_volumes_that_lie_apart_are_said(other):
    for said in (note(at(20, 10, 30), at(*other)), note(at(*other), at(20, 10, 30))):
        assert "1000, 40, 120 nm" in said
        assert "\n" not in said


def test_files_of_two_formats_that_lie_apart_are_said(tmp_path):
    image = read_volume(precomputed(tmp_path / "a.precomputed", (30, 200, 100)))
    same = read_volume(ome(tmp_path / "a.zarr", [[("scale", SIZES), ("translation", (1500, 800, 400))]]))
    apart = read_volume(ome(tmp_path / "b.zarr", [[("scale", SIZES), ("translation", (1500, 800, 1234567))]]))
    assert note(image, same) == ""
    assert note(image, apart) == ("--labels starts at 1500, 800, 1234567 nm, and --image at 1500, 800, 400 nm (z, y, x), as their"
                                  " files say; voxels are paired as they are stored")


def test_a_turned_nifti_is_said(tmp_path):
    image = nifti(tmp_path / "image.nii", np.diag([-4.0, -4.0, 50.0, 1.0]))
    turned = nibabel.as_closest_canonical(nibabel.load(image))
    nibabel.save(turned, tmp_path / "labels.nii.gz")
    labels = str(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(read_volume(labels).store.read().result(), VALUES[:, ::-1, ::-1])
    assert note(read_volume(image), read_volume(labels)) == (
        "--labels starts at 0, -76000, -116000 nm and runs to S, A, R, and --image at 0, 0, 0 nm and runs to S, P, L (z, y, x),"
        " as their files say; voxels are paired as they are stored")
    assert note(read_volume(image), read_volume(image)) == ""
    middle = nifti(tmp_path / "middle.nii", np.array([[-4.0, 0, 0, 116], [0, -4, 0, 76], [0, 0, 50, 0], [0, 0, 0, 1]]),
                   VALUES[:, ::-1, ::-1])
    assert note(read_volume(image), read_volume(middle)) != ""
