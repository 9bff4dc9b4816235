"""MRC and NIfTI, against what mrcfile and nibabel have written."""

import gzip
import struct

import mrcfile
import nibabel
import numpy as np
import pytest

from yseg.config import InputError
from yseg.volumes.volume import read_volume

VALUES = np.random.default_rng(0).integers(0, 120, (5, 20, 30), np.uint8)


def refused(spec, said):
    with pytest.raises(InputError) as caught:
        read_volume(str(spec), "--image").store.read().result()
    assert str(caught.value).startswith(f"--image={spec}: ")
    assert "\n" not in str(caught.value)
    assert said in str(caught.value)


# --- MRC ---


def mrc(path, values, voxel=None, **header):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(values)
        if voxel:
            file.voxel_size = voxel
        for name, value in header.items():
            file.header[name] = value
    return str(path)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
@pytest.mark.parametrize("ending", ["mrc", "REC", "st"])
def test_mrc_has_the_values_that_were_written(tmp_path, dtype, ending):
    values = (VALUES.astype(np.float64) - (50 if dtype != np.uint16 else 0)).astype(dtype)
    opened = read_volume(mrc(tmp_path / f"a.{ending}", values, (46.0, 46.0, 500.0)))
    assert opened.store.dtype.numpy_dtype == dtype
    np.testing.assert_array_equal(opened.store.read().result(), values)
    np.testing.assert_array_equal(opened.store[1:3, 4:9, 7].read().result(), values[1:3, 4:9, 7])
    assert opened.voxel_nm == (50.0, 4.6, 4.6)


def test_sizes_of_mrc_that_say_nothing(tmp_path):
    assert read_volume(mrc(tmp_path / "a.mrc", VALUES.astype(np.int16))).voxel_nm == (None, None, None)
    assert read_volume(mrc(tmp_path / "b.mrc", VALUES.astype(np.int16), 1.0)).voxel_nm == (None, None, None)
    opened = read_volume(mrc(tmp_path / "c.mrc", VALUES[0].astype(np.int16), 40.0))
    assert (tuple(opened.store.shape), opened.voxel_nm) == ((1, 20, 30), (None, 4.0, 4.0))
    with mrcfile.new(tmp_path / "d.mrc") as file:
        file.set_data(VALUES.astype(np.int16))
        file.set_image_stack()
        file.voxel_size = 40.0
    assert read_volume(str(tmp_path / "d.mrc")).voxel_nm == (None, 4.0, 4.0)


def test_the_order_of_axes_in_the_header_of_an_mrc_file_is_obeyed(tmp_path):
    path = mrc(tmp_path / "a.mrc", VALUES.transpose(2, 0, 1).astype(np.int16), mapc=2, mapr=3, maps=1)  # columns y, rows z
    np.testing.assert_array_equal(read_volume(path).store.read().result(), VALUES)


def test_big_endian_mrc(tmp_path):
    path = mrc(tmp_path / "a.mrc", VALUES.astype(">f4"))
    assert mrcfile.open(path).header.nx.dtype.byteorder == ">"
    np.testing.assert_array_equal(read_volume(path).store.read().result(), VALUES)


@pytest.mark.parametrize(("stamp", "flags", "signed"), [(None, 0, True), (1146047817, 1, True), (1146047817, 0, False)])
def test_bytes_of_older_imod_files_have_no_sign(tmp_path, stamp, flags, signed):
    values = (VALUES * 2).astype(np.uint8)
    path = mrc(tmp_path / "a.mrc", values.view(np.int8))
    if stamp:
        with open(path, "r+b") as file:
            file.seek(152)
            file.write(struct.pack("<ii", stamp, flags))
    np.testing.assert_array_equal(read_volume(path).store.read().result(), values.view(np.int8) if signed else values)


def test_mrc_files_that_cannot_be_read(tmp_path):
    path = mrc(tmp_path / "a.mrc", VALUES.astype(np.int16))
    data = (tmp_path / "a.mrc").read_bytes()
    for size in (0, 100, 1024, len(data) - 1):
        (tmp_path / "a.mrc").write_bytes(data[:size])
        refused(path, "cannot be read as MRC")
    refused(mrc(tmp_path / "b.mrc", VALUES.astype(np.complex64)), "must be integers or floats")
    (tmp_path / "c.mrc").write_text("no" * 2000)
    refused(tmp_path / "c.mrc", "cannot be read as MRC")


# --- NIfTI ---


def nifti(path, values, voxel=(4.6e-6, 4.6e-6, 5e-5), unit="mm", kind=nibabel.Nifti1Image):
    image = kind(values, np.diag([*voxel, 1.0]), dtype=values.dtype)
    image.header.set_zooms([*voxel, *[1.0] * (values.ndim - 3)][:values.ndim])
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return str(path)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u4", "i8", "f4", "f8", ">i2", ">f4"])
@pytest.mark.parametrize("ending", ["nii", "nii.gz", "NII"])
def test_nifti_has_the_values_that_were_written_with_x_first(tmp_path, dtype, ending):
    values = VALUES.astype(dtype)
    opened = read_volume(nifti(tmp_path / f"a.{ending}", values.T))
    assert opened.store.dtype.numpy_dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(opened.store.read().result(), values)
    np.testing.assert_array_equal(opened.store[1:3, 4:9, 7].read().result(), values[1:3, 4:9, 7])
    assert opened.voxel_nm == pytest.approx((50.0, 4.6, 4.6))


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_the_scale_of_nifti_is_applied_and_its_units_are_obeyed(tmp_path, ending):
    image = nibabel.Nifti2Image(VALUES.T.astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    image.header.set_zooms((0.004, 0.004, 0.05))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / f"a.{ending}")
    opened = read_volume(f"{tmp_path}/a.{ending}")
    np.testing.assert_allclose(opened.store.read().result(), np.asarray(nibabel.load(tmp_path / f"a.{ending}").dataobj).T)
    assert opened.store.dtype.numpy_dtype.kind == "f"
    assert opened.voxel_nm == pytest.approx((50, 4, 4))
    assert read_volume(nifti(tmp_path / f"b.{ending}", VALUES.T, unit="unknown")).voxel_nm == (None, None, None)


def test_points_in_time_and_channels_of_nifti(tmp_path):
    np.testing.assert_array_equal(read_volume(nifti(tmp_path / "a.nii", VALUES.T[..., None])).store.read().result(), VALUES)
    np.testing.assert_array_equal(read_volume(nifti(tmp_path / "b.nii", VALUES[:1].T)).store.read().result(), VALUES[:1])
    refused(nifti(tmp_path / "c.nii", np.stack([VALUES.T] * 2, -1)), "one point in time")
    several = np.stack([VALUES.T, 2 * VALUES.T], -1)[:, :, :, None]
    refused(nifti(tmp_path / "d.nii", several), "2 channels, which are not sections; choose one by --channel=0 to 1")
    np.testing.assert_array_equal(read_volume(str(tmp_path / "d.nii"), channel=1).store.read().result(), 2 * VALUES)


def test_nifti_files_that_cannot_be_read(tmp_path):
    path = nifti(tmp_path / "a.nii", VALUES.T)
    data = (tmp_path / "a.nii").read_bytes()
    for size in (0, 100, 352, len(data) - 1):
        (tmp_path / "a.nii").write_bytes(data[:size])
        refused(path, "cannot be read as NIfTI")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data)[:-40])
    refused(tmp_path / "b.nii.gz", "cannot be read as NIfTI")
    colours = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(nifti(tmp_path / "c.nii", colours), "must be integers or floats")
