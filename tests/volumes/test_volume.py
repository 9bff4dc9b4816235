"""yseg.volumes.volume: what other readers see in the same files, and what is refused."""

import concurrent.futures
import os
import struct
import tracemalloc

import numpy as np
import pytest
import tensorstore as ts
import tifffile
import zarr
from PIL import Image

from yseg.config import InputError
from yseg.volumes.phantom import phantom
from yseg.volumes.volume import open_volume, read_volume


def voxels(shape=(4, 30, 40), dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write(path, values, photometric="minisblack", **options):
    """A TIFF file by tifffile; without a photometric it takes three or four sections for colours."""
    tifffile.imwrite(path, values, photometric=photometric, **options)


def read(spec):
    return open_volume(str(spec)).read().result()


def refused(spec, flag="--config.source.image"):
    """The message of the InputError for `spec`, which must be one line that names the flag and the path."""
    with pytest.raises(InputError) as caught:
        open_volume(str(spec), flag)
    message = str(caught.value)
    assert message.startswith(f"{flag}={spec}")
    assert "\n" not in message
    return message


# --- TIFF ---


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True, "rowsperstrip": 8}, {"tile": (16, 32)},
                                     {"byteorder": ">"}, {"bigtiff": True}, {"imagej": True, "metadata": {"axes": "ZYX"}},
                                     {"truncate": True}])
def test_a_tiff_has_the_values_that_were_written(tmp_path, dtype, options):
    if "imagej" in options and dtype not in (np.uint8, np.uint16):
        pytest.skip("ImageJ has no such type")
    values = voxels(dtype=dtype)
    write(tmp_path / "a.tif", values, **options)
    store = open_volume(str(tmp_path / "a.tif"))
    assert store.domain == ts.IndexDomain(shape=values.shape)
    assert store.dtype.numpy_dtype == dtype
    np.testing.assert_array_equal(store.read().result(), values)
    np.testing.assert_array_equal(store[1:3, 5:9, 30:].read().result(), values[1:3, 5:9, 30:])


def test_float_and_1_bit_tiffs(tmp_path):
    values = np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 4, 5)
    write(tmp_path / "a.tiff", values)
    np.testing.assert_array_equal(read(tmp_path / "a.tiff"), values)
    write(tmp_path / "b.tif", values > 0)
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), (values > 0) * np.uint8(255))


def test_a_2d_tiff_is_a_volume_of_one_section(tmp_path):
    values = voxels((30, 40))
    write(tmp_path / "a.tif", values)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), values[None])


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"imagej": True, "metadata": {"axes": "ZYX"}},
                                     {"truncate": True}])
def test_a_truncated_tiff_is_refused_when_it_is_opened(tmp_path, options, capfd):
    write(tmp_path / "whole.tif", voxels(), **options)
    data = (tmp_path / "whole.tif").read_bytes()
    # ImageJ's files, and others, may end with padding or tables that nothing needs: cut deeper than that.
    for size in (0, 3, 7, 8, 100, len(data) // 4, len(data) // 2, len(data) - 600):
        (tmp_path / "cut.tif").write_bytes(data[:size])
        assert "cannot be read as TIFF" in refused(tmp_path / "cut.tif")
    assert capfd.readouterr() == ("", "")


def test_no_cut_of_a_compressed_tiff_goes_unnoticed(tmp_path):
    values = voxels((3, 8, 8))
    write(tmp_path / "whole.tif", values, compression="zlib")
    data = (tmp_path / "whole.tif").read_bytes()
    for size in range(0, len(data), 7):
        (tmp_path / "cut.tif").write_bytes(data[:size])
        try:
            store = open_volume(str(tmp_path / "cut.tif"))
        except InputError:
            continue
        np.testing.assert_array_equal(store.read().result(), values)


def test_damaged_data_name_the_page_when_they_are_read(tmp_path):
    write(tmp_path / "a.tif", voxels(), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset, size = file.pages[2].dataoffsets[0], file.pages[2].databytecounts[0]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[offset:offset + size] = bytes(size)
    (tmp_path / "a.tif").write_bytes(data)
    store = open_volume(str(tmp_path / "a.tif"), "--image")
    np.testing.assert_array_equal(store[:2].read().result(), voxels()[:2])
    with pytest.raises(InputError, match=r"^--image=.*a\.tif: page 2 cannot be decoded"):
        store[2].read().result()


def test_a_missing_end_of_the_page_list_is_refused(tmp_path):
    write(tmp_path / "a.tif", voxels(), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        end = file.pages.next_page_offset
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[end:end + 4] = struct.pack("<I", len(data) + 100)
    (tmp_path / "a.tif").write_bytes(data)
    assert "breaks off after page 4" in refused(tmp_path / "a.tif")


def test_pages_that_differ_and_colours_are_refused(tmp_path):
    for name, second in (("shape", voxels((30, 41))), ("type", voxels((30, 40), np.uint16))):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            file.write(voxels((30, 40)), photometric="minisblack")
            file.write(second, photometric="minisblack")
        assert "page 1" in refused(tmp_path / f"{name}.tif")
    write(tmp_path / "rgb.tif", voxels((30, 40, 3)), photometric="rgb")
    refused(tmp_path / "rgb.tif")
    write(tmp_path / "channels.tif", voxels((5, 2, 30, 40)), imagej=True, metadata={"axes": "ZCYX"})
    assert "2 channels" in refused(tmp_path / "channels.tif")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.tif").write_text("not a TIFF file at all")
    assert "cannot be read as TIFF" in refused(tmp_path / "a.tif")
    assert "no such file" in refused(tmp_path / "b.tif")
    assert "no such file" in refused(tmp_path / "b")


@pytest.mark.parametrize("spec", ["ftp://host/a.zarr", "gs://bucket/a", "a.jpg",
                                  "phantom://source", "phantom://source/raw", "phantom://source/image?size=1",
                                  "phantom://source/image?shape=1,2", "phantom://moon/image", "phantom://source/image?seed=a",
                                  "phantom://source/image?tissue=2"])
def test_an_unsupported_spec_lists_what_is_supported(spec):
    assert "phantom://" in refused(spec)


# --- Folders ---


def test_a_folder_of_masks_mixes_1_bit_and_8_bit_in_natural_order(tmp_path):
    values = voxels((3, 8, 9)) | 1
    values[1] = np.where(values[1] > 99, 255, 0)
    Image.fromarray(values[0]).save(tmp_path / "s2.png")
    Image.fromarray(values[1] > 0).save(tmp_path / "s9.png")
    Image.fromarray(values[2]).save(tmp_path / "s10.png")
    (tmp_path / "notes.txt").write_text("not a section")
    (tmp_path / "._s1.png").write_text("left by a file manager")
    with Image.open(tmp_path / "s9.png") as image:
        assert image.mode == "1"
    np.testing.assert_array_equal(read(tmp_path), values)


def test_folders_of_tiffs_and_16_bit_pngs(tmp_path):
    values = voxels((2, 8, 9), np.uint16)
    for folder, suffix in (("a", "TIF"), ("b", "png")):
        (tmp_path / folder).mkdir()
        for z, section in enumerate(values):
            if suffix == "TIF":
                write(tmp_path / folder / f"{z}.{suffix}", section)
            else:
                Image.fromarray(section).save(tmp_path / folder / f"{z}.{suffix}")
        np.testing.assert_array_equal(read(tmp_path / folder), values)
    np.testing.assert_array_equal(read(tmp_path / "b" / "1.png"), values[1:])


def test_a_folder_that_is_no_volume_is_refused(tmp_path):
    assert "without .tif or .png" in refused(tmp_path)
    Image.fromarray(voxels((8, 9))).save(tmp_path / "0.png")
    for name, section in (("1", voxels((9, 9))), ("2", voxels((8, 9), np.uint16)), ("3", voxels((8, 9, 3)))):
        Image.fromarray(section).save(tmp_path / f"{name}.png")
        assert f"{name}.png" in refused(tmp_path)
        (tmp_path / f"{name}.png").unlink()
    data = (tmp_path / "0.png").read_bytes()
    for size in (0, 20, len(data) // 2, len(data) - 9):
        (tmp_path / "4.png").write_bytes(data[:size])
        assert "4.png cannot be read as PNG" in refused(tmp_path)
    (tmp_path / "4.png").unlink()
    write(tmp_path / "5.tif", voxels((8, 9)))
    assert "both" in refused(tmp_path)
    (tmp_path / "0.png").unlink()
    write(tmp_path / "5.tif", voxels((3, 8, 9)))
    assert "5.tif has 3 pages" in refused(tmp_path)
    (tmp_path / "5.tif").write_bytes(b"II*\0")
    assert "5.tif" in refused(tmp_path)


# --- Laziness ---


def test_sections_are_decoded_once_and_only_when_read(tmp_path):
    values = voxels((6, 500, 500))
    write(tmp_path / "a.tif", values, compression="zlib")
    store = open_volume(str(tmp_path / "a.tif"))
    assert store.chunk_layout.read_chunk.shape == (1, 500, 500)
    store[3, 10:20, 10:20].read().result()
    with open(tmp_path / "a.tif", "r+b") as file:
        file.truncate(100)
    np.testing.assert_array_equal(store[3].read().result(), values[3])
    with pytest.raises(InputError):
        store[4].read().result()


def test_opening_a_stack_takes_no_memory_for_its_voxels(tmp_path):
    write(tmp_path / "a.tif", np.zeros((64, 512, 512), np.uint8), compression="zlib")
    tracemalloc.start()
    open_volume(str(tmp_path / "a.tif"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20  # the volume is 16 MiB


def test_many_threads_read_what_is_there(tmp_path):
    values = voxels((12, 64, 64))
    write(tmp_path / "a.tif", values, compression="zlib", rowsperstrip=16)
    store = open_volume(str(tmp_path / "a.tif"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        sections = list(pool.map(lambda k: store[k % 12].read().result(), range(96)))
    for k, section in enumerate(sections):
        np.testing.assert_array_equal(section, values[k % 12])
    reads = [store[k % 12, 3:9, 3:9].read() for k in range(96)]
    for k, future in enumerate(reads):
        np.testing.assert_array_equal(future.result(), values[k % 12, 3:9, 3:9])


# --- Zarr, phantoms ---


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool"])
def test_a_zarr_array_of_either_version(tmp_path, version, dtype):
    values = voxels().astype(dtype)
    array = zarr.create_array(tmp_path / "a.zarr", shape=values.shape, dtype=dtype, chunks=(2, 16, 16), zarr_format=version)
    array[...] = values
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), values)
    os.rename(tmp_path / "a.zarr", tmp_path / "renamed")
    np.testing.assert_array_equal(read(tmp_path / "renamed"), values)


def test_dimension_names_and_a_missing_dimension_make_no_difference(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(5, 6), dtype="uint8", dimension_names=("y", "x"))
    array[...] = 3
    store = open_volume(str(tmp_path / "a.zarr"))
    assert tuple(store.shape) == (1, 5, 6)
    assert store.domain.labels == ("", "", "")


def test_a_zarr_that_is_no_volume_is_refused(tmp_path):
    for version in (2, 3):
        group = zarr.create_group(tmp_path / f"{version}.zarr", zarr_format=version)
        for name in ("raw", "labels/all"):
            group.create_array(name, shape=(2, 3, 4), dtype="uint8")[...] = 5
        assert "a group; name the array in it, one of labels/all, raw" in refused(tmp_path / f"{version}.zarr")
        assert (read(tmp_path / f"{version}.zarr" / "raw") == 5).all()
    zarr.create_array(tmp_path / "4d.zarr", shape=(2, 2, 3, 4), dtype="uint8")
    assert "2 x 2 x 3 x 4" in refused(tmp_path / "4d.zarr")
    zarr.create_array(tmp_path / "c.zarr", shape=(2, 3, 4), dtype="complex64")
    assert "complex64" in refused(tmp_path / "c.zarr")
    (tmp_path / "empty.zarr").mkdir()
    assert "not a Zarr, N5 or precomputed array" in refused(tmp_path / "empty.zarr")
    assert "no such" in refused(tmp_path / "none.zarr")


def test_a_phantom_has_one_channel():
    spec = "phantom://target/image?shape=1,32,32"
    assert read_volume(spec, channel=0).store.shape == (1, 32, 32)
    with pytest.raises(InputError, match=r"^--channel=1: must be 0"):
        read_volume(spec, "--image", channel=1)


def test_a_phantom_is_what_the_generator_makes():
    image, labels = phantom("target", (2, 48, 40), 3)
    np.testing.assert_array_equal(read("phantom://target/image?shape=2,48,40&seed=3"), image)
    np.testing.assert_array_equal(read("phantom://target/labels?shape=2,48,40&seed=3"), labels)
    np.testing.assert_array_equal(read("phantom://target/image?shape=2,48,40&seed=3&tissue=1&microscope=1"), image)




# --- The published volumes ---


def test_epfl_and_vnc_are_what_other_readers_see(real_data):
    epfl, vnc = open_volume(str(real_data / "epfl" / "training.tif")), open_volume(str(real_data / "vnc/stack1/mitochondria"))
    np.testing.assert_array_equal(epfl[7].read().result(), tifffile.imread(real_data / "epfl" / "training.tif", key=7))
    assert vnc.dtype == ts.uint8
    masks = vnc.read().result()
    for z in (0, 1, 7, 18, 19):
        with Image.open(real_data / "vnc" / "stack1" / "mitochondria" / f"{z:02}.png") as image:
            np.testing.assert_array_equal(masks[z], np.asarray(image.convert("L")))
