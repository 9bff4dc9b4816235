"""The phantom: what makes it a stand-in for two EM data sets."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from yseg.config import InputError
from yseg.volumes import phantom as module
from yseg.volumes.appearance import APPEARANCES, appearance
from yseg.volumes.phantom import PIXEL_SIZE_NM, SECTION_NM, phantom

SHAPE = (8, 192, 192)
DOMAINS = tuple(APPEARANCES)


@pytest.fixture(scope="module")
def volumes():
    return {(domain, seed): phantom(domain, SHAPE, seed) for domain in DOMAINS for seed in range(3)}


def noise(image):
    """Robust estimate of the standard deviation of the finest detail, in grey levels."""
    fine = ndimage.convolve(image.astype(float), np.array([[[1, -2, 1], [-2, 4, -2], [1, -2, 1]]]))
    return np.median(np.abs(fine)) / 0.6745 / 6


def standardized(image):
    return (image - image.mean()) / image.std()


@pytest.mark.parametrize("domain", DOMAINS)
def test_same_arguments_give_the_same_bytes_in_another_process(domain):
    image, labels = phantom(domain, (3, 70, 50), 5)
    program = ("import sys; from yseg.volumes.phantom import phantom;"
               f"[sys.stdout.buffer.write(array.tobytes()) for array in phantom({domain!r}, (3, 70, 50), 5)]")
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert output == image.tobytes() + labels.tobytes()


def test_calls_do_not_influence_each_other_or_the_global_generator():
    before = np.random.get_state()[1].copy()
    first = phantom("source", (2, 40, 40), 1)
    phantom("target", (2, 40, 40), 2)
    again = phantom("source", (2, 40, 40), 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert np.array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("domain", DOMAINS)
def test_seeds_give_unlike_volumes(domain, volumes):
    images = [standardized(volumes[domain, seed][0]) for seed in range(3)]
    for other in (1, 2):
        assert abs((images[0] * images[other]).mean()) < 0.15
        assert not np.array_equal(volumes[domain, 0][1], volumes[domain, other][1])


def test_domains_with_one_seed_share_no_tissue(volumes):
    assert abs((standardized(volumes["source", 0][0]) * standardized(volumes["target", 0][0])).mean()) < 0.15


@pytest.mark.parametrize("domain", DOMAINS)
def test_labels_are_binary_and_foreground_is_four_to_twelve_per_cent(domain, volumes):
    for seed in range(3):
        image, labels = volumes[domain, seed]
        assert image.shape == labels.shape == SHAPE
        assert image.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels)) == {0, 1}
        assert 0.04 < labels.mean() < 0.12


@pytest.mark.parametrize("domain", DOMAINS)
def test_most_sections_show_several_mitochondria(domain):
    labels = phantom(domain, (4, 384, 384), 0)[1]
    assert np.median([ndimage.label(section)[1] for section in labels]) >= 3


@pytest.mark.parametrize("domain", DOMAINS)
def test_mitochondria_have_the_size_of_mitochondria(domain):
    """The widest place of each is between the smallest and the largest radius (with room for the deformation)."""
    labels = phantom(domain, (4, 384, 384), 1)[1]
    depth = max(ndimage.distance_transform_edt(np.pad(section, 1)).max() for section in labels) * PIXEL_SIZE_NM[domain]
    low, high = APPEARANCES[domain].mitochondrion_radius_nm
    assert 0.6 * low < depth < 1.6 * high


@pytest.mark.parametrize("domain", DOMAINS)
def test_mitochondria_continue_across_neighbouring_sections(domain, volumes):
    for seed in range(3):
        labels = volumes[domain, seed][1].astype(bool)
        near = (labels[1:] & labels[:-1]).sum() / labels[1:].sum()
        far = (labels[4:] & labels[:-4]).sum() / labels[4:].sum()
        assert near > 0.5
        assert near > far
    assert SECTION_NM["source"] < SECTION_NM["target"]


def test_sections_of_the_thin_domain_are_more_alike(volumes):
    def likeness(domain):
        return np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for seed in range(3)
                        for a, b in zip(volumes[domain, seed][0][1:], volumes[domain, seed][0][:-1], strict=True)])

    assert likeness("source") > likeness("target") + 0.1


@pytest.mark.parametrize("domain", DOMAINS)
def test_membranes_are_darker_than_cytoplasm(domain):
    """In the tissue before exposure: the membrane is known there, and organelles are absent."""
    look = APPEARANCES[domain]
    random = np.random.default_rng(0)
    grid, warp = module._deformation(random, look, (2, 160, 160))
    cell, rim, tilt = module._cells(random, look, grid + warp)
    tissue = module.Tissue(grid, cell, rim, tilt, *np.zeros((3, *cell.shape), np.float32))
    image = module._draw_cells(random, look, tissue)
    membrane, cytoplasm = image[(rim < 1.5) & (tilt < 0.05)], image[rim > 40]
    assert membrane.mean() < cytoplasm.mean() - 40
    assert np.median(membrane) == pytest.approx(look.membrane_grey, abs=15)


@pytest.mark.parametrize("domain", DOMAINS)
def test_membranes_lie_between_cells(domain):
    look = APPEARANCES[domain]
    random = np.random.default_rng(1)
    grid, warp = module._deformation(random, look, (1, 150, 170))
    cell, rim, _ = (layer[0] for layer in module._cells(random, look, grid + warp))
    border = (cell[1:, 1:] != cell[:-1, 1:]) | (cell[1:, 1:] != cell[1:, :-1])
    assert rim.min() >= 0
    assert np.quantile(rim[1:, 1:][border], 0.95) < 3 * look.pixel_size_nm
    assert not border[rim[1:, 1:] > 8 * look.pixel_size_nm].any()


def test_tessellation_is_the_voronoi_diagram_of_its_seeds():
    """Against the distances to all seeds, in float64; where two cells are equally near, either is right."""
    random = np.random.default_rng(2)
    seeds = random.uniform(-300, 900, (400, 3)) * [0.4, 1, 1]
    cells = random.integers(0, 200, 400)
    z, y, x = np.meshgrid([50.0], np.arange(75) * 5.0, np.arange(61) * 5.0, indexing="ij")
    position = np.stack([z, y, x])[:, 0]
    tree = module.spatial.cKDTree(seeds)
    cell, rim, _ = module._tessellate(position.astype(np.float32), tree, seeds.astype(np.float32), cells.astype(np.int32))
    nearest = cells[np.linalg.norm(position[:, None] - seeds.T[:, :, None, None], axis=0).argmin(0)]
    assert (cell == nearest)[rim > 0.5].all()
    assert (rim > 0.5).mean() > 0.9


def test_target_is_noisier_higher_in_contrast_and_less_even_than_the_source(volumes):
    for seed in range(3):
        source, target = volumes["source", seed][0], volumes["target", seed][0]
        assert noise(target) > 1.2 * noise(source)
        assert target.std() > 1.4 * source.std()
        assert np.ptp(target.mean((1, 2))) > np.ptp(source.mean((1, 2)))


def test_target_is_sharper_than_the_source():
    """Width of an exposed edge, in nm, as the standard deviation of its derivative; noise is averaged over 8 x 400 rows."""
    def edge_width(domain):
        edge = np.full((8, 400, 40), 60, np.float32)
        edge[:, :, 20:] = 180
        profile = module._expose(np.random.default_rng(0), APPEARANCES[domain], edge).mean((0, 1))
        spread, place = np.diff(profile)[12:27], np.arange(15) * PIXEL_SIZE_NM[domain]
        middle = (spread * place).sum() / spread.sum()
        return np.sqrt((spread * (place - middle) ** 2).sum() / spread.sum())

    assert edge_width("source") == pytest.approx(APPEARANCES["source"].blur_nm, rel=0.3)
    assert edge_width("target") < 0.8 * edge_width("source")


def test_mitochondria_are_darker_in_the_source(volumes):
    """Relative to their volume's own greys, so that no normalisation of a volume removes the difference."""
    for seed in range(3):
        inside = {}
        for domain in DOMAINS:
            image, labels = volumes[domain, seed]
            inside[domain] = standardized(image)[ndimage.binary_erosion(labels, np.ones((1, 9, 9)))]
        assert inside["source"].mean() < -1.2
        assert -1.0 < inside["target"].mean() < 0.2


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 200, 200), (3, 37, 51), (2, 8, 129)])
@pytest.mark.parametrize("domain", DOMAINS)
def test_any_shape_works(domain, shape):
    image, labels = phantom(domain, shape, 3)
    assert image.shape == labels.shape == shape
    assert labels.max() <= 1


@pytest.mark.parametrize("domain", ["", "Source", "mouse", None])
def test_unknown_domain_is_refused_with_the_domains_that_exist(domain):
    with pytest.raises(InputError, match=r"source, target") as refusal:
        phantom(domain, (1, 8, 8))
    assert repr(domain) in str(refusal.value)


@pytest.mark.parametrize(("shape", "seed", "named"), [
    ((8, 8), 0, "shape"), ((0, 8, 8), 0, "shape"), ((1, 8.5, 8), 0, "shape"), ((1, 8, 8), -1, "seed"), ((1, 8, 8), "0", "seed")])
def test_bad_shape_or_seed_is_refused(shape, seed, named):
    with pytest.raises(InputError, match=f"phantom {named} ") as refusal:
        phantom("source", shape, seed)
    assert "\n" not in str(refusal.value)


def test_between_the_domains_lie_looks_that_differ_by_tissue_or_by_microscope():
    assert appearance("target") == appearance("target", 1, 1) == APPEARANCES["target"]
    assert dataclasses.replace(appearance("target", 0, 0), pixel_size_nm=5.0) == APPEARANCES["source"]
    half, microscope = appearance("target", 0.5, 0.5), appearance("target", 0, 1)
    assert half.grain == (8.0 + 11.0) / 2
    assert half.matrix_grey == (108.0, 129.0)
    assert (microscope.grain, microscope.matrix_grey, microscope.pixel_size_nm) == (11.0, (104.0, 116.0), 4.6)
    image, labels = phantom("target", (2, 60, 60), 1, tissue=0, microscope=0.5)
    assert (image != phantom("target", (2, 60, 60), 1)[0]).any()
    assert image.shape == labels.shape == (2, 60, 60)
    with pytest.raises(InputError, match="phantom tissue 2: must be"):
        phantom("target", (2, 60, 60), 1, tissue=2)
