"""PNG files of every kind, written by hand or by Pillow: what their values mean."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from yseg.config import InputError
from yseg.volumes.volume import read_volume

VALUES = np.random.default_rng(0).integers(0, 255, (6, 8), np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write(path, samples, bits, colour, *chunks):
    """A PNG file by hand: samples [rows, columns] or [rows, columns, samples of a pixel] of so many bits."""
    rows, columns = samples.shape[:2]
    if bits == 16:
        lines = [row.astype(">u2").tobytes() for row in samples]
    else:
        each = np.unpackbits(samples.astype(np.uint8).reshape(rows, -1, 1), axis=2)[..., 8 - bits:].reshape(rows, -1)
        lines = [np.packbits(line).tobytes() for line in each]
    header = struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    path.write_bytes(b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *chunks, chunk(b"IDAT", data), chunk(b"IEND", b"")]))
    return str(path)


def read(spec, **options):
    return read_volume(str(spec), **options).store.read().result()[0]


def refused(spec, **options):
    with pytest.raises(InputError) as caught:
        read(spec, flag="--image", **options)
    assert str(caught.value).startswith(f"--image={spec}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_levels_are_as_a_viewer_shows_them_and_label_values_as_they_are_stored(tmp_path, bits):
    samples = VALUES.astype(np.uint16) * 257 if bits == 16 else VALUES >> (8 - bits)
    path = write(tmp_path / "a.png", samples, bits, 0)
    shown = samples * (1 if bits == 16 else 255 // (2**bits - 1))
    np.testing.assert_array_equal(read(path), shown)
    np.testing.assert_array_equal(read(path, labels=True), shown if bits == 1 else samples)


def palette(levels):
    return chunk(b"PLTE", bytes(np.repeat(levels, 3).astype(np.uint8)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("labels", [False, True])
def test_a_palette_of_grey_levels_is_resolved(tmp_path, bits, labels):
    levels = np.random.default_rng(1).permutation(256)[:2**bits]
    samples = VALUES >> (8 - bits)
    path = write(tmp_path / "a.png", samples, bits, 3, palette(levels))
    np.testing.assert_array_equal(read(path, labels=labels), levels[samples])


def test_an_inverted_mask_with_a_palette_is_255_where_it_is_white(tmp_path):
    image = Image.fromarray(np.where(VALUES > 99, 0, 1).astype(np.uint8), "P")
    image.putpalette([255] * 3 + [0] * 3)
    image.save(tmp_path / "a.png")
    for labels in (False, True):
        np.testing.assert_array_equal(read(tmp_path / "a.png", labels=labels), (VALUES > 99) * 255)


def test_a_palette_of_colours_is_refused_but_for_labels_whose_indices_count(tmp_path):
    colours = chunk(b"PLTE", bytes(np.random.default_rng(2).integers(0, 255, 48, np.uint8)))
    path = write(tmp_path / "a.png", VALUES >> 4, 4, 3, colours)
    assert "a palette of colours" in refused(path)
    np.testing.assert_array_equal(read(path, labels=True), VALUES >> 4)


def test_an_index_outside_of_the_palette_is_refused(tmp_path):
    assert "cannot be decoded" in refused(write(tmp_path / "a.png", VALUES, 8, 3, palette(np.arange(9))))


@pytest.mark.parametrize("bits", [8, 16])
def test_colours_are_chosen_and_alpha_must_be_opaque(tmp_path, bits):
    most = 2**bits - 1
    values = VALUES.astype(np.uint16) * (257 if bits == 16 else 1)
    opaque = np.full_like(values, most)
    for colour, samples in ((2, [values, values // 2, values // 3]), (6, [values, values // 2, values // 3, opaque])):
        path = write(tmp_path / f"{colour}.png", np.stack(samples, -1), bits, colour)
        assert "3 channels, which are not sections; choose one by --channel=0 to 2" in refused(path)
        np.testing.assert_array_equal(read(path, channel=1), values // 2)
    np.testing.assert_array_equal(read(write(tmp_path / "4.png", np.stack([values, opaque], -1), bits, 4)), values)
    opaque[3, 4] = 0
    assert "transparent" in refused(write(tmp_path / "t.png", np.stack([values, opaque], -1), bits, 4))


def test_transparent_grey_levels_and_entries_of_a_palette_are_refused_in_images(tmp_path):
    used, unused = VALUES[2, 3], next(level for level in range(256) if level not in VALUES)
    for level, said in ((used, "transparent"), (unused, "")):
        path = write(tmp_path / "a.png", VALUES, 8, 0, chunk(b"tRNS", struct.pack(">H", level)))
        assert not said or said in refused(path)
        np.testing.assert_array_equal(read(path, labels=bool(said)), VALUES)
    path = write(tmp_path / "b.png", VALUES >> 7, 1, 3, palette([0, 255]), chunk(b"tRNS", b"\0"))
    assert "transparent" in refused(path)
    np.testing.assert_array_equal(read(path, labels=True), (VALUES >> 7) * 255)
