"""TIFF: hyperstacks and OME-TIFF in the order of their metadata, and what stored values mean."""

import uuid

import numpy as np
import pytest
import tifffile

from yseg.config import InputError
from yseg.volumes.volume import read_volume

VALUES = np.random.default_rng(0).integers(0, 255, (5, 20, 30), np.uint8)
MANY = np.random.default_rng(1).integers(0, 255, (1, 5, 3, 20, 30), np.uint8)  # t, z, c, y, x


def write(path, values, **options):
    tifffile.imwrite(path, values, **{"photometric": "minisblack"} | options)
    return str(path)


def read(spec, **options):
    return read_volume(str(spec), **options).store.read().result()


def refused(spec, **options):
    with pytest.raises(InputError) as caught:
        read(spec, flag="--config.source.image", **options)
    assert str(caught.value).startswith(f"--config.source.image={spec}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Axes ---


@pytest.mark.parametrize("kind", [{"imagej": True}, {"ome": True}])
def test_a_channel_of_a_hyperstack_is_chosen(tmp_path, kind):
    path = write(tmp_path / "a.tif", MANY, **kind, metadata={"axes": "TZCYX"})
    assert "3 channels, which are not sections; choose one by --config.source.channel=0 to 2" in refused(path)
    for channel in range(3):
        np.testing.assert_array_equal(read(path, channel=channel), MANY[0, :, channel])


@pytest.mark.parametrize("kind", [{"imagej": True}, {"ome": True}])
@pytest.mark.parametrize("axes", ["TYX", "TZYX"])
def test_points_in_time_are_no_sections(tmp_path, kind, axes):
    values = VALUES if axes == "TYX" else MANY[0].transpose(1, 0, 2, 3)
    path = write(tmp_path / "a.tif", values, **kind, metadata={"axes": axes})
    assert "must have one point in time" in refused(path)


@pytest.mark.parametrize("kind", [{"imagej": True}, {"ome": True}])
@pytest.mark.parametrize("axes", [None, "CYX"])
def test_channels_alone_are_no_sections(tmp_path, kind, axes):
    path = write(tmp_path / "a.tif", VALUES, **kind, metadata={"axes": axes} if axes else {})
    assert "5 channels" in refused(path)


def test_big_endian_hyperstacks_behind_one_page(tmp_path):
    values = MANY.astype(np.uint16) * 257
    path = write(tmp_path / "a.tif", values[0, :, 0], imagej=True, metadata={"axes": "ZYX"}, truncate=True)
    assert len(tifffile.TiffFile(path).pages) == 1
    np.testing.assert_array_equal(read(path), values[0, :, 0])
    path = write(tmp_path / "b.tif", values, imagej=True, metadata={"axes": "TZCYX"}, truncate=True)
    np.testing.assert_array_equal(read(path, channel=1), values[0, :, 1])


@pytest.mark.parametrize("axes", ["ZYX", "ZXY", "XYZ", "YXZ", "XZY"])
def test_the_axes_that_tifffile_stores_are_obeyed(tmp_path, axes):
    values = VALUES.transpose(["ZYX".index(axis) for axis in axes])
    path = write(tmp_path / "a.tif", values, metadata={"axes": axes}, resolution=(2.5e6, 2e6), resolutionunit="CENTIMETER")
    np.testing.assert_array_equal(read(path), VALUES)
    sizes = dict(zip("zyx", read_volume(path).voxel_nm, strict=True))
    assert [sizes[axis] for axis in axes[1:].lower()] == [5, 4]  # of rows and of columns


def test_sections_whose_rows_are_x_are_turned(tmp_path):
    for number, section in enumerate(VALUES):
        write(tmp_path / f"{number}.tif", section.T, metadata={"axes": "XY"})
    np.testing.assert_array_equal(read(tmp_path), VALUES)
    np.testing.assert_array_equal(read(tmp_path / "2.tif"), VALUES[2:3])


def of_imagej(path, values, description):
    return write(path, values, description=f"ImageJ=1.54f\n{description}\n", metadata=None)


def test_pages_that_the_metadata_do_not_name_are_not_left_out_without_a_word(tmp_path):
    said = "its metadata name 4 pages of its 5, without page 4; it must be written anew"
    assert said in refused(of_imagej(tmp_path / "a.tif", VALUES, "images=4\nslices=4"))
    assert said in refused(write(tmp_path / "a.ome.tif", VALUES, description=ome("<TiffData/>", 1, sizes=(4, 1)), metadata=None))
    np.testing.assert_array_equal(read(of_imagej(tmp_path / "b.tif", VALUES, "images=5\nslices=5")), VALUES)
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:  # with a small copy
        file.write(VALUES, photometric="minisblack", description="ImageJ=1.54f\nimages=5\nslices=5\n", metadata=None)
        file.write(VALUES[0, ::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(read(tmp_path / "c.tif"), VALUES)


OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def urn(number):
    return f"urn:uuid:{uuid.UUID(int=number)}"


def in_file(z, name, number):
    """Where section z is: in the first page of a file."""
    return f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{urn(number)}</UUID></TiffData>'


def ome(pages, own, order="XYZCT", sizes=(5, 1)):
    sections, channels = sizes
    channel = "".join(f'<Channel ID="Channel:0:{c}" SamplesPerPixel="1"/>' for c in range(channels))
    return (f'<?xml version="1.0"?><OME xmlns="{OME}" UUID="{urn(own)}"><Image ID="Image:0"><Pixels ID="Pixels:0"'
            f' DimensionOrder="{order}" Type="uint8" SizeX="30" SizeY="20" SizeZ="{sections}" SizeC="{channels}" SizeT="1">'
            f'{channel}{pages}</Pixels></Image></OME>').encode()


def several_files(folder, order=range(5)):
    """An OME-TIFF of five files; order: which section is in which of them."""
    pages = "".join(in_file(z, f"{name}.ome.tif", name + 1) for name, z in enumerate(order))
    for name, z in enumerate(order):
        write(folder / f"{name}.ome.tif", VALUES[z], description=ome(pages, name + 1), metadata=None)


@pytest.mark.parametrize("order", [range(5), [4, 2, 0, 1, 3]])
def test_an_ome_tiff_of_several_files_is_the_whole_from_any_of_them(tmp_path, order):
    several_files(tmp_path, order)
    for name in (0, 3):
        np.testing.assert_array_equal(read(tmp_path / f"{name}.ome.tif"), VALUES)
    np.testing.assert_array_equal(read(tmp_path), VALUES[list(order)])  # as a folder it has the order of its names
    (tmp_path / "2.ome.tif").unlink()
    assert "is not beside it (1 of 5 are not there)" in refused(tmp_path / "0.ome.tif")


def test_an_ome_tiff_does_not_read_in_other_folders(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "out.tif", VALUES[1])
    pages = in_file(0, "a.ome.tif", 1) + in_file(1, "../out.tif", 2)
    write(tmp_path / "in" / "a.ome.tif", VALUES[0], description=ome(pages, 1, sizes=(2, 1)), metadata=None)
    refused(tmp_path / "in" / "a.ome.tif")


def test_the_order_of_pages_is_that_of_the_metadata(tmp_path):
    pages = "".join(f'<TiffData FirstZ="{4 - page}" IFD="{page}" PlaneCount="1"/>' for page in range(5))
    path = write(tmp_path / "a.ome.tif", VALUES[::-1], description=ome(pages, 1), metadata=None)
    np.testing.assert_array_equal(read(path), VALUES)


@pytest.mark.parametrize("order", ["XYZCT", "XYCZT"])
def test_the_order_of_dimensions_is_that_of_the_metadata(tmp_path, order):
    values = MANY[0].transpose(1, 0, 2, 3) if order == "XYZCT" else MANY[0]
    description = ome("<TiffData/>", 1, order, (5, 3))
    path = write(tmp_path / "a.ome.tif", values.reshape(15, 20, 30), description=description, metadata=None)
    np.testing.assert_array_equal(read(path, channel=2), MANY[0, :, 2])


def test_pyramids_thumbnails_and_pages_that_were_written_one_by_one(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        file.write(VALUES, subifds=1, metadata={"axes": "ZYX"}, photometric="minisblack")
        file.write(VALUES[:, ::2, ::2], subfiletype=1, photometric="minisblack")
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif"), VALUES)
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(VALUES[0], metadata=None)
        file.write(VALUES[0, ::2, ::2], metadata=None, subfiletype=1)
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), VALUES[:1])
    for name, options in (("c", {}), ("d", {"metadata": None})):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            for section in VALUES:
                file.write(section, photometric="minisblack", **options)
        np.testing.assert_array_equal(read(tmp_path / f"{name}.tif"), VALUES)
    with tifffile.TiffWriter(tmp_path / "e.ome.tif", ome=True) as file:
        for _ in range(2):
            file.write(VALUES, metadata={"axes": "ZYX"}, photometric="minisblack")
    assert "it holds 2 images" in refused(tmp_path / "e.ome.tif")


# --- Values ---


@pytest.mark.parametrize("in_folder", [False, True])
def test_pages_that_are_to_be_shown_turned_are_read_as_they_are_stored_and_said(tmp_path, in_folder):
    (tmp_path / "sections").mkdir()
    pages = np.random.default_rng(0).integers(0, 255, (3, 16, 20), np.uint8)
    for number, page in enumerate(pages):
        write(tmp_path / "sections" / f"{number}.tif", page, photometric="minisblack",
              extratags=[(274, 3, 1, 4 if number == 1 else 1, True)])
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            writer.write(page, photometric="minisblack", extratags=[(274, 3, 1, 6, True)])
    spec, which = (str(tmp_path / "sections"), "1.tif") if in_folder else (str(tmp_path / "a.tif"), "page 0")
    opened = read_volume(spec)
    np.testing.assert_array_equal(opened.store.read().result(), pages)
    note, = opened.notes
    assert f": {which} is to be shown turned or mirrored (orientation {4 if in_folder else 6}); it is read as it is" in note


def test_labels_that_are_compressed_as_jpeg_are_said_and_images_are_not(tmp_path):
    mask = ((VALUES > 128) * 255).astype(np.uint8)
    (tmp_path / "sections").mkdir()
    for number, section in enumerate(mask):
        write(tmp_path / "sections" / f"{number}.tif", section, compression="jpeg" if number == 3 else "zlib")
    for spec in (write(tmp_path / "a.tif", mask, compression="jpeg"), str(tmp_path / "sections")):
        (note,) = read_volume(spec, "--labels", labels=True).notes
        assert note.startswith(f"--labels={spec}: is compressed as JPEG, which changes label values, as 0 and 255 to values near")
        assert "the foreground rule '>=128'" in note
        assert "\n" not in note
        assert len(np.unique(read(spec, labels=True))) > 2
        assert read_volume(spec, "--image").notes == ()
    assert read_volume(write(tmp_path / "b.tif", mask, compression="lzw"), labels=True).notes == ()


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_any_type_in_either_order_of_bytes(tmp_path, dtype, order):
    values = VALUES.astype(dtype)
    found = read(write(tmp_path / "a.tif", values, byteorder=order))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


def test_volumetric_tiles(tmp_path):
    np.testing.assert_array_equal(read(write(tmp_path / "a.tif", VALUES, volumetric=True, tile=(16, 16, 16))), VALUES)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"metadata": None}])
def test_colours_are_no_sections(tmp_path, planar, options):
    values = np.moveaxis(VALUES[:3], 0, -1 if planar == "contig" else 0)
    path = write(tmp_path / "a.tif", values, photometric="rgb", planarconfig=planar, **options)
    assert "3 channels, which are not sections" in refused(path)
    np.testing.assert_array_equal(read(path, channel=1), VALUES[1:2])


def test_three_sections_that_tifffile_takes_for_colours_are_refused(tmp_path):
    with pytest.warns(DeprecationWarning, match="photometric"):
        tifffile.imwrite(tmp_path / "a.tif", VALUES[:3])
    assert "3 channels" in refused(tmp_path / "a.tif")


def test_opaque_pixels_lose_their_alpha_and_others_are_refused(tmp_path):
    alpha = np.full_like(VALUES, 255)
    options = {"extrasamples": ["unassalpha"], "planarconfig": "contig"}
    np.testing.assert_array_equal(read(write(tmp_path / "a.tif", np.stack([VALUES, alpha], -1), **options)), VALUES)
    alpha[2, 3, 4] = 7
    with pytest.raises(InputError, match=r"page 2 cannot be decoded .*transparent"):
        read(write(tmp_path / "b.tif", np.stack([VALUES, alpha], -1), **options))
    path = write(tmp_path / "c.tif", np.stack([VALUES, alpha], -1), extrasamples=["unspecified"], planarconfig="contig")
    assert "2 channels" in refused(path)


def shuffled():
    """(grey level of each index, index of each grey level)."""
    levels = np.random.default_rng(2).permutation(256).astype(np.uint8)
    return levels, np.argsort(levels).astype(np.uint8)


@pytest.mark.parametrize("labels", [False, True])
def test_a_palette_of_grey_levels_is_resolved(tmp_path, labels):
    levels, index = shuffled()
    palette = np.stack([levels.astype(np.uint16) * 257] * 3)
    path = write(tmp_path / "a.tif", index[VALUES], photometric="palette", colormap=palette)
    np.testing.assert_array_equal(read(path, labels=labels), VALUES)
    palette[:, 7] += 3
    fine = write(tmp_path / "b.tif", index[VALUES], photometric="palette", colormap=palette)
    np.testing.assert_array_equal(read(fine), palette[0][index[VALUES]])  # 16 bits


def test_a_palette_of_colours_is_refused_but_for_labels_whose_indices_count(tmp_path):
    palette = np.random.default_rng(3).integers(0, 65535, (3, 256)).astype(np.uint16)
    path = write(tmp_path / "a.tif", VALUES, photometric="palette", colormap=palette)
    assert "a palette of colours" in refused(path)
    np.testing.assert_array_equal(read(path, labels=True), VALUES)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_white_as_0_is_shown_as_white(tmp_path, dtype):
    values = VALUES.astype(dtype)
    path = write(tmp_path / "a.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(read(path), np.iinfo(dtype).max - values)
    with pytest.raises(InputError, match="WhiteIsZero"):
        read(path, labels=True)
    mask = write(tmp_path / "b.tif", VALUES > 99, photometric="miniswhite")
    for labels in (False, True):
        np.testing.assert_array_equal(read(mask, labels=labels), (VALUES <= 99) * np.uint8(255))
    for other in (np.int16, np.float32):
        assert "WhiteIsZero" in refused(write(tmp_path / f"{other.__name__}.tif", VALUES.astype(other), photometric="miniswhite"))
    raw = write(tmp_path / "c.tif", values[:, ::2], photometric="miniswhite", truncate=True)
    np.testing.assert_array_equal(read(raw), np.iinfo(dtype).max - values[:, ::2])


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_shown_as_grey_levels_and_are_label_values_as_they_are(tmp_path, bits):
    """Written by hand, as tifffile writes no such files: one strip, big-endian samples within a byte."""
    values = VALUES[0, :, :16] % 2**bits
    path = write(tmp_path / "a.tif", packed(values, bits), metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tags = file.pages[0].tags
        tags["ImageWidth"].overwrite(16)
        tags["BitsPerSample"].overwrite(bits)
    np.testing.assert_array_equal(tifffile.imread(path), values)
    np.testing.assert_array_equal(read(path), values[None] * (255 // (2**bits - 1)))
    np.testing.assert_array_equal(read(path, labels=True), values[None])


def packed(values, bits):
    count = 8 // bits
    return sum((values[:, place::count] << (8 - bits * (place + 1))).astype(np.uint8) for place in range(count)).astype(np.uint8)
