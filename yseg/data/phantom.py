"""Procedural EM-like volumes in two domains: the embedded default and the tests' data.

A phantom is neural tissue made of formulas: cells of a warped Voronoi tessellation with dark membranes, mitochondria (the
foreground) with two membranes and cristae, and what can be taken for them: vesicles, synaptic densities, endoplasmic reticulum,
dark bodies. The `source` is imaged as by FIB-SEM (mouse: soft, grainy, nearly isotropic, dark mitochondria), the `target` as by
ssTEM (fly: crisp, high contrast, thick sections, pale mitochondria full of dark cristae among dark bodies). Nothing is copied
from real data.

All lengths are nm and all greys are grey levels of the finished uint8 image (0 = black). At full resolution only + - * / and
sqrt are used, which every machine rounds alike, so that the bytes depend on (domain, shape, seed) alone.
"""

import dataclasses

import numpy as np
from scipy import ndimage, spatial

from yseg.config import InputError

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Appearance:
    """What the tissue of a domain consists of and how its microscope shows it; a range is drawn from uniformly."""

    # The grid.
    pixel_size_nm: float  # size of a pixel in y and x
    section_nm: float  # distance of two sections, and the thickness over which each is projected
    section_shift_nm: float  # standard deviation of the misalignment of each section
    # Cells.
    seed_spacing_nm: Range  # distance of the tessellation's seeds in z, and in y and x
    merge_spacing_nm: float  # diameter of the large cells, each of which unites many seeds
    merge_share: float  # share of the seeds that belong to a large cell; the others are small neurites
    warp_nm: Range  # amplitude of the coarse and of the fine deformation
    warp_spacing_nm: Range  # distance of the control points of the two deformations
    stiffness: float  # share of the deformation that organelles resist
    membrane_nm: float  # thickness of the membrane between two cells
    membrane_grey: float  # grey of a membrane seen edge-on
    cytoplasm_grey: Range  # grey of the cytoplasm of a cell
    dark_cell_share: float  # share of the cells that are stained darkly, such as glia
    dark_cell_grey: Range  # grey of their cytoplasm
    granule_nm: float  # size of the granules (ribosomes, filaments) in the cytoplasm
    granule_contrast: Range  # how much darker granules are than their cell, in grey levels
    granule_threshold: float  # standard deviations above which the texture shows: low = a cloudy, high = a speckled cytoplasm
    # Mitochondria.
    mitochondrion_share: float  # share of the volume inside mitochondria
    mitochondrion_radius_nm: Range  # radius across
    mitochondrion_length_nm: Range  # length of the axis, without the round ends
    mitochondrion_bend: float  # sideways displacement of the axis's ends, as a share of half its length
    sheath_nm: float  # cytoplasm between a mitochondrion and the next membrane, at least
    matrix_grey: Range  # grey of the matrix
    envelope_grey: float  # grey of the outer and the inner membrane
    envelope_nm: Range  # thickness of each membrane, and distance of the two
    cristae_period_nm: Range  # distance of neighbouring cristae
    cristae_nm: float  # thickness of a crista's two membranes together
    cristae_contrast: Range  # how much darker cristae are than the matrix, in grey levels
    lumen_contrast: float  # how much lighter the space between cristae is than the matrix, in grey levels
    # Distractors. Densities are numbers in a cubic micrometre.
    body_density: float  # dark bodies (lysosomes, pigment) without envelope and cristae
    body_radius_nm: Range  # radius of a dark body
    body_grey: Range  # grey of a dark body
    reticulum_density: float  # tubules of the endoplasmic reticulum
    reticulum_radius_nm: Range  # radius of a tubule
    cluster_density: float  # clusters of synaptic vesicles
    vesicle_grey: float  # grey of a vesicle's membrane
    vesicle_core: float  # how much of that grey fills the vesicle, 0 to 1
    core_density: float  # dense-core vesicles
    core_radius_nm: Range  # radius of a dense core
    synapse_density: float  # synaptic densities on membranes
    synapse_grey: float  # grey of a synaptic density
    # The microscope.
    blur_nm: float  # standard deviation of the point spread
    grain: float  # standard deviation of the noise that is independent in each pixel, in grey levels
    clouds: float  # standard deviation of the correlated noise, in grey levels
    cloud_nm: float  # its correlation length
    shading: float  # standard deviation of the illumination across a section, in grey levels
    section_offset: float  # standard deviation of a section's brightness, in grey levels
    section_gain: float  # standard deviation of a section's relative contrast


APPEARANCES = {
    "source": Appearance(
        pixel_size_nm=5.0, section_nm=15.0, section_shift_nm=0.5,
        seed_spacing_nm=(420.0, 250.0), merge_spacing_nm=900.0, merge_share=0.6, warp_nm=(110.0, 24.0),
        warp_spacing_nm=(330.0, 110.0), stiffness=0.6, membrane_nm=17.0, membrane_grey=84.0, cytoplasm_grey=(154.0, 176.0),
        dark_cell_share=0.06, dark_cell_grey=(120.0, 135.0), granule_nm=24.0, granule_contrast=(5.0, 16.0),
        granule_threshold=-0.7,
        mitochondrion_share=0.075, mitochondrion_radius_nm=(95.0, 150.0), mitochondrion_length_nm=(150.0, 900.0),
        mitochondrion_bend=0.3, sheath_nm=45.0, matrix_grey=(104.0, 116.0), envelope_grey=72.0, envelope_nm=(9.0, 20.0),
        cristae_period_nm=(46.0, 64.0), cristae_nm=20.0, cristae_contrast=(14.0, 32.0), lumen_contrast=16.0,
        body_density=0.5, body_radius_nm=(40.0, 80.0), body_grey=(60.0, 80.0), reticulum_density=12.0,
        reticulum_radius_nm=(20.0, 36.0), cluster_density=10.0, vesicle_grey=98.0, vesicle_core=0.4, core_density=2.0, core_radius_nm=(20.0, 35.0),
        synapse_density=3.0, synapse_grey=82.0,
        blur_nm=5.0, grain=8.0, clouds=4.0, cloud_nm=25.0, shading=2.5, section_offset=1.0, section_gain=0.01),
    "target": Appearance(
        pixel_size_nm=4.6, section_nm=50.0, section_shift_nm=6.0,
        seed_spacing_nm=(420.0, 190.0), merge_spacing_nm=800.0, merge_share=0.55, warp_nm=(85.0, 24.0),
        warp_spacing_nm=(300.0, 75.0), stiffness=0.7, membrane_nm=15.0, membrane_grey=25.0, cytoplasm_grey=(172.0, 202.0),
        dark_cell_share=0.1, dark_cell_grey=(85.0, 115.0), granule_nm=11.0, granule_contrast=(18.0, 42.0),
        granule_threshold=0.0,
        mitochondrion_share=0.07, mitochondrion_radius_nm=(70.0, 145.0), mitochondrion_length_nm=(40.0, 450.0),
        mitochondrion_bend=0.3, sheath_nm=35.0, matrix_grey=(112.0, 142.0), envelope_grey=48.0, envelope_nm=(8.0, 18.0),
        cristae_period_nm=(34.0, 52.0), cristae_nm=13.0, cristae_contrast=(40.0, 75.0), lumen_contrast=35.0,
        body_density=2.5, body_radius_nm=(50.0, 120.0), body_grey=(60.0, 95.0), reticulum_density=8.0,
        reticulum_radius_nm=(16.0, 28.0), cluster_density=8.0, vesicle_grey=80.0, vesicle_core=0.0, core_density=6.0, core_radius_nm=(22.0, 40.0),
        synapse_density=6.0, synapse_grey=25.0,
        blur_nm=3.2, grain=11.0, clouds=7.0, cloud_nm=30.0, shading=7.0, section_offset=7.0, section_gain=0.08),
}
PIXEL_SIZE_NM = {name: look.pixel_size_nm for name, look in APPEARANCES.items()}
SECTION_NM = {name: look.section_nm for name, look in APPEARANCES.items()}

_TILE = 8  # pixels; the tessellation is computed in square tiles of a section, from the seeds nearest to each tile
_CANDIDATES = 8  # seeds considered in a tile
_TRIES = 40  # places tried for an organelle before it is given up


@dataclasses.dataclass(frozen=True)
class Tube:
    """A bent capsule: the shape of mitochondria, of tubules and (when short) of dark bodies."""

    voxel: tuple[int, int, int]  # the voxel of its middle
    axes: np.ndarray  # [3, zyx] unit vectors: along, and the two across
    half_length: float  # of its axis, nm
    radius: float  # nm
    bend: np.ndarray  # [2] displacement of the axis's ends in the two directions across, nm


@dataclasses.dataclass
class Tissue:
    """The volume while it is made; every array is [z, y, x]."""

    position: np.ndarray  # [3, z, y, x] nm: where each voxel lies, as the stiff organelles see it
    cell: np.ndarray  # number of the cell
    rim: np.ndarray  # distance to the cell's surface, nm
    tilt: np.ndarray  # |z| of the surface's normal: 0 = seen edge-on, 1 = parallel to the section
    organelle: np.ndarray  # grey of mitochondria and dark bodies
    cover: np.ndarray  # how opaquely they cover the cytoplasm, 0 to 1
    labels: np.ndarray  # 1 = mitochondrion


def phantom(domain, shape=(24, 384, 384), seed=0):
    """An EM-like volume with its mitochondria.

    Args:
      domain: "source" (like FIB-SEM of mouse) or "target" (like ssTEM of fly).
      shape: (z, y, x), the number of sections, rows and columns; voxels measure SECTION_NM[domain] and PIXEL_SIZE_NM[domain].
      seed: whole number >= 0; the same (domain, shape, seed) gives the same bytes.

    Returns:
      (image, labels), both uint8 [z, y, x]; labels are 1 in mitochondria (some 7 % of the voxels) and 0 elsewhere.

    Raises:
      InputError: another domain, a shape that is not three positive numbers, or a negative seed.
    """
    _check(domain, shape, seed)
    look = APPEARANCES[domain]
    random = np.random.Generator(np.random.PCG64([seed, list(APPEARANCES).index(domain)]))
    grid, warp = _deformation(random, look, shape)
    cells = _cells(random, look, grid + warp)
    tissue = Tissue(grid + np.float32(1 - look.stiffness) * warp, *cells, np.zeros(shape, np.float32), np.zeros(shape, np.float32),
                    np.zeros(shape, np.uint8))
    _add_mitochondria(random, look, tissue)
    _add_bodies(random, look, tissue)
    image = _cytoplasm(random, look, tissue)
    _add_synapses(random, look, tissue, image)
    _add_membranes(look, tissue, image)
    _add_reticulum(random, look, tissue, image)
    _add_vesicles(random, look, tissue, image)
    _blend(image, tissue.organelle, tissue.cover)
    return _expose(random, look, image), tissue.labels


def _check(domain, shape, seed):
    if domain not in APPEARANCES:
        raise InputError(f"phantom domain {domain!r}: must be one of {', '.join(APPEARANCES)}")
    if len(shape) != 3 or not all(isinstance(size, (int, np.integer)) and size > 0 for size in shape):
        raise InputError(f"phantom shape {shape!r}: must be three positive whole numbers (sections, rows, columns)")
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"phantom seed {seed!r}: must be a whole number of at least 0")


# --- Elements ---


def _voxel_nm(look):
    return np.array([look.section_nm, look.pixel_size_nm, look.pixel_size_nm])


def _number(random, look, shape, density):
    """How many structures of a density (in a cubic micrometre) the volume gets; at least 1, which small volumes need."""
    return 1 + random.poisson(density * np.prod(_voxel_nm(look) * shape) * 1e-9)


def _smooth_field(random, shape, spacing):
    """Gaussian noise float32 [z, y, x] of about unit variance: a cubic B-spline through control points `spacing` voxels apart."""
    counts = [int(np.ceil(size / step)) + 4 for size, step in zip(shape, spacing, strict=True)]
    field = random.standard_normal(counts).astype(np.float32) * np.float32(2.7 / 6**3)  # the spline divides the deviation by 2.7
    for axis, (size, step) in enumerate(zip(shape, spacing, strict=True)):
        knot, t = np.divmod((np.arange(size) + random.uniform(0, step)) / step, 1)
        s = 1 - t
        weights = (s * s * s, 4 - 3 * t * t * (2 - t), 4 - 3 * s * s * (2 - s), t * t * t)
        column = [-1 if other == axis else 1 for other in range(3)]
        field = sum(np.take(field, knot.astype(int) + tap, axis) * weight.astype(np.float32).reshape(column)
                    for tap, weight in enumerate(weights))
    return field


def _step(x):
    """0 below 0, 1 above 1, smooth between: the antialiased edge of everything that is drawn."""
    x = np.clip(x, np.float32(0), np.float32(1))
    return x * x * (3 - 2 * x)


def _line(distance, width):
    """The profile of a membrane `width` nm thick at `distance` nm from its middle: 1 to 0."""
    return 1 - _step(np.abs(distance) / width)


def _wave(phase):
    """Triangle wave of period 1 between 0 and 1."""
    return np.abs(2 * (phase - np.floor(phase)) - 1)


def _blend(image, grey, cover):
    """Lay `grey` over `image` with opacity `cover`, in place."""
    image += (grey - image) * cover


# --- Cells ---


def _deformation(random, look, shape):
    """Where each voxel lies, section by section misaligned, and where the two smooth deformations move it: nm, float32 [3, z, y, x]."""
    voxel = _voxel_nm(look)
    shift = random.normal(0, look.section_shift_nm, (3, shape[0])) * [[0], [1], [1]]
    grid, warp = np.empty((3, *shape), np.float32), np.zeros((3, *shape), np.float32)
    for axis, index in enumerate(np.ogrid[tuple(slice(size) for size in shape)]):
        grid[axis] = index * voxel[axis] + shift[axis][:, None, None]
        for amplitude, spacing in zip(look.warp_nm, look.warp_spacing_nm, strict=True):
            warp[axis] += np.float32(amplitude) * _smooth_field(random, shape, spacing / voxel)
    return grid, warp


def _seeds(random, look, shape):
    """Seeds of the tessellation [n, zyx] in nm, and the number of the cell of each [n]."""
    spacing = np.array([look.seed_spacing_nm[0], look.seed_spacing_nm[1], look.seed_spacing_nm[1]])
    extent, margin = _voxel_nm(look) * shape, 4 * look.warp_nm[0] + spacing
    lattice = np.mgrid[tuple(slice(size) for size in np.ceil((extent + 2 * margin) / spacing).astype(int))].reshape(3, -1).T
    seeds = (lattice + random.uniform(0.05, 0.95, lattice.shape)) * spacing - margin
    seeds = seeds[random.random(len(seeds)) < 0.65]  # gaps, so that sizes vary
    centres = random.uniform(-margin, extent + margin,
                             (1 + int(np.prod((extent + 2 * margin) / look.merge_spacing_nm)), 3))
    large = spatial.cKDTree(centres).query(seeds)[1]
    merged = random.random(len(seeds)) < look.merge_share
    return seeds, np.where(merged, large, len(centres) + np.arange(len(seeds)))


def _cells(random, look, position):
    """(cell, rim, tilt) [z, y, x], see Tissue: each voxel belongs to the cell of the nearest seed."""
    shape = position.shape[1:]
    seeds, cell_of_seed = _seeds(random, look, shape)
    tree = spatial.cKDTree(seeds)
    seeds, cell_of_seed = seeds.astype(np.float32), cell_of_seed.astype(np.int32)
    sections = [_tessellate(position[:, z], tree, seeds, cell_of_seed) for z in range(shape[0])]
    return tuple(np.stack(layer) for layer in zip(*sections, strict=True))


def _tessellate(position, tree, seeds, cell_of_seed):
    """(cell, rim, tilt) [y, x] of one section from its position [3, y, x]; see Tissue."""
    rows, columns = position.shape[1:]
    down, across = -(-rows // _TILE), -(-columns // _TILE)
    position = np.pad(position, ((0, 0), (0, down * _TILE - rows), (0, across * _TILE - columns)), "edge")
    tiles = position.reshape(3, down, _TILE, across, _TILE).transpose(0, 1, 3, 2, 4).reshape(3, down * across, _TILE**2)
    middle = tiles[:, :, _TILE**2 // 2 + _TILE // 2]
    candidates = tree.query(middle.T, k=range(1, min(_CANDIDATES, len(seeds)) + 1))[1].T[:, :, None]  # [candidate, tile, 1]

    def nearest(excluded=None):
        """The seed with the least squared distance (less the |position|^2 all share), and that distance, [tile, pixel]."""
        best = np.full(tiles.shape[1:], np.inf, np.float32)
        which = np.zeros(tiles.shape[1:], np.int32)
        for candidate in candidates:
            z, y, x = (seeds[candidate, axis] for axis in range(3))
            power = (z * z + y * y + x * x) - 2 * (z * tiles[0] + y * tiles[1] + x * tiles[2])
            closer = power < best
            if excluded is not None:
                closer &= cell_of_seed[candidate] != excluded
            np.copyto(best, power, where=closer)
            np.copyto(which, candidate, where=closer, casting="unsafe")
        return which, best

    first, first_power = nearest()
    second, second_power = nearest(excluded=cell_of_seed[first])
    between = seeds[second] - seeds[first]
    length = np.sqrt((between * between).sum(-1)) + np.float32(1e-3)
    rim = (second_power - first_power) / (2 * length)  # distance to the plane halfway between the two seeds
    layers = cell_of_seed[first], np.minimum(rim, np.float32(1e4)), np.abs(between[..., 0]) / length

    def untile(layer):
        return layer.reshape(down, across, _TILE, _TILE).swapaxes(1, 2).reshape(down * _TILE, -1)[:rows, :columns]

    return tuple(untile(layer) for layer in layers)


# --- Organelles ---


def _draw_tube(random, tissue, radius, length, bend, inside=4, level=0.0):
    """A Tube in a random place, deep in its cell: the deepest of `inside` voxels; `level` in [0, 1) flattens it into the section."""
    voxels = random.integers(0, tissue.cell.shape, (inside, 3))
    voxel = tuple(int(index) for index in max(voxels, key=lambda index: tissue.rim[tuple(index)]))
    along, across = random.standard_normal((2, 3))
    along[0] *= 1 - level
    along /= np.sqrt((along * along).sum())
    across -= along * (along * across).sum()
    across /= np.sqrt((across * across).sum())
    axes = np.stack([along, across, np.cross(along, across)])
    half_length = random.uniform(*length) / 2
    return Tube(voxel, axes, half_length, random.uniform(*radius), random.normal(0, bend, 2) * half_length)


def _tube_box(look, tissue, tube, margin):
    """The box (slices) of voxels that may lie within `margin` nm of a tube; the deformation may carry it aside."""
    reach = np.abs(tube.axes[0]) * tube.half_length + np.abs(tube.axes[1:]).T @ np.abs(tube.bend) + tube.radius
    reach += margin + 1.5 * (1 - look.stiffness) * look.warp_nm[0]
    low = np.floor(tube.voxel - reach / _voxel_nm(look)).astype(int)
    high = np.ceil(tube.voxel + reach / _voxel_nm(look)).astype(int) + 1
    return tuple(slice(max(a, 0), min(b, size)) for a, b, size in zip(low, high, tissue.cell.shape, strict=True))


def _tube_geometry(tissue, tube, box):
    """Of each voxel of a box: depth under the tube's surface (nm, negative outside), place along and across it, tilt."""
    offset = tissue.position[(slice(None), *box)] - tissue.position[(slice(None), *tube.voxel)][:, None, None, None]
    axes = tube.axes.astype(np.float32)
    along, across, other = (axis[0] * offset[0] + axis[1] * offset[1] + axis[2] * offset[2] for axis in axes)
    curve = (along / np.float32(tube.half_length + tube.radius)) ** 2
    across, other = (side - np.float32(bend) * curve for side, bend in zip((across, other), tube.bend, strict=True))
    beyond = np.clip(along, -tube.half_length, tube.half_length)
    beyond = along - beyond
    distance = np.sqrt(beyond * beyond + across * across + other * other) + np.float32(1e-3)
    tilt = np.abs(beyond * axes[0, 0] + across * axes[1, 0] + other * axes[2, 0]) / distance
    return np.float32(tube.radius) - distance, along, across, tilt


def _enclose(tissue, box, depth, owner, sheath):
    """Let the owner's cytoplasm surround a tube by at least `sheath` nm: union of the cell with the widened tube."""
    cell, rim = tissue.cell[box], tissue.rim[box]
    reach = depth + np.float32(sheath)
    rim[...] = np.where(cell == owner, np.maximum(rim, reach), np.where(reach > 0, reach, np.minimum(rim, -reach)))
    cell[reach > 0] = owner


def _add_mitochondria(random, look, tissue):
    wanted, tries = look.mitochondrion_share * tissue.labels.size, 0
    while tissue.labels.sum(dtype=np.int64) < wanted and tries < 1000:
        tries += 1
        tube = _draw_tube(random, tissue, look.mitochondrion_radius_nm, look.mitochondrion_length_nm, look.mitochondrion_bend,
                          level=0.5)
        box = _tube_box(look, tissue, tube, 2 * look.sheath_nm)
        depth, along, across, tilt = _tube_geometry(tissue, tube, box)
        if tissue.labels[box][depth > -2 * look.sheath_nm].any():
            continue
        _enclose(tissue, box, depth, tissue.cell[tube.voxel], look.sheath_nm)
        tissue.labels[box][depth > 0] = 1
        near = look.pixel_size_nm + tilt * np.float32(look.section_nm / 3)  # an oblique surface is blurred by the section
        cover = _step(depth / near + np.float32(0.5))
        grey = _mitochondrion(random, look, depth, along, across, tilt)
        tissue.organelle[box] = np.where(cover > 0, grey, tissue.organelle[box])
        tissue.cover[box] = np.maximum(cover, tissue.cover[box])


def _mitochondrion(random, look, depth, along, across, tilt):
    """Grey inside a mitochondrion: matrix, cristae (sheets across or oblique to its axis), outer and inner membrane."""
    width, gap = look.envelope_nm
    angle = random.uniform(-0.9, 0.9)
    period = random.uniform(*look.cristae_period_nm)
    bumps = _smooth_field(random, depth.shape, np.array([period, period, period]) * 1.3 / _voxel_nm(look))
    gaps = _smooth_field(random, depth.shape, np.array([1.5, 1.5, 1.5]) * period / _voxel_nm(look))
    phase = (np.float32(np.cos(angle)) * along + np.float32(np.sin(angle)) * across) / np.float32(period) + bumps * np.float32(0.22)
    wave = _wave(phase)
    sheet = _line(wave, np.float32(look.cristae_nm / period)) * _step(gaps + np.float32(1.1))
    inner = _step((depth - gap - width) / np.float32(2 * width))
    grey = np.full(depth.shape, random.uniform(*look.matrix_grey), np.float32)
    grey += inner * (look.lumen_contrast * _step(2 * wave - 1) * _step(gaps + 1)
                     - np.float32(random.uniform(*look.cristae_contrast)) * sheet)
    blurred = width + tilt * np.float32(look.section_nm / 4)
    envelope = np.maximum(_line(depth - width / 2, blurred), _line(depth - gap, blurred)) * np.sqrt(width / blurred)
    _blend(grey, np.float32(look.envelope_grey), envelope)
    return grey


def _add_bodies(random, look, tissue):
    for _ in range(_number(random, look, tissue.cell.shape, look.body_density)):
        for _ in range(_TRIES):
            tube = _draw_tube(random, tissue, look.body_radius_nm, (0, 1.5 * look.body_radius_nm[1]), 0.3)
            box = _tube_box(look, tissue, tube, look.sheath_nm)
            depth, _, _, tilt = _tube_geometry(tissue, tube, box)
            if not (tissue.cover[box][depth > -look.sheath_nm] > 0).any():
                break
        else:
            continue
        _enclose(tissue, box, depth, tissue.cell[tube.voxel], look.sheath_nm / 2)
        near = 3 * look.pixel_size_nm + tilt * np.float32(look.section_nm / 3)
        cover = _step(depth / near + np.float32(0.5))
        lumps = _smooth_field(random, depth.shape, 25 / _voxel_nm(look))
        grey = random.uniform(*look.body_grey) + np.float32(8) * lumps
        tissue.organelle[box] = np.where(cover > 0, grey, tissue.organelle[box])
        tissue.cover[box] = np.maximum(cover, tissue.cover[box])


def _cytoplasm(random, look, tissue):
    """Grey of the cytoplasm: of each cell its own, with dark granules."""
    cells = int(tissue.cell.max()) + 1
    grey = np.where(random.random(cells) < look.dark_cell_share, random.uniform(*look.dark_cell_grey, cells),
                    random.uniform(*look.cytoplasm_grey, cells)).astype(np.float32)
    contrast = random.uniform(*look.granule_contrast, cells).astype(np.float32)
    image = grey[tissue.cell]
    sigma = look.granule_nm / 2 / look.pixel_size_nm
    scale = np.float32(2 * np.sqrt(np.pi) * sigma)  # brings filtered white noise back to unit variance
    for z in range(len(image)):
        grains = ndimage.gaussian_filter(random.standard_normal(image[z].shape, np.float32), sigma, truncate=3) * scale
        image[z] -= contrast[tissue.cell[z]] * (np.maximum(grains - np.float32(look.granule_threshold), 0))
    return image


def _add_membranes(look, tissue, image):
    half = np.float32(look.membrane_nm / 2)
    spread = half + tissue.tilt * np.float32(look.section_nm / 3)
    strength = np.sqrt(half / spread)
    _blend(image, np.float32(look.membrane_grey), strength * _line(tissue.rim, 2 * spread))


def _around(look, tissue, voxel, radius):
    """The box within `radius` nm of a voxel, and the distance of each of its voxels from there, nm."""
    size = _voxel_nm(look)
    box = tuple(slice(max(int(middle - radius / step), 0), min(int(middle + radius / step) + 1, count))
                for middle, step, count in zip(voxel, size, tissue.cell.shape, strict=True))
    z, y, x = (((np.arange(span.start, span.stop) - middle) * step).astype(np.float32) ** 2
               for span, middle, step in zip(box, voxel, size, strict=True))
    return box, np.sqrt(z[:, None, None] + y[:, None] + x)


def _add_synapses(random, look, tissue, image):
    """Dark densities on one side of a membrane."""
    for _ in range(_number(random, look, image.shape, look.synapse_density)):
        voxels = random.integers(0, image.shape, (60, 3))
        voxel = min(voxels, key=lambda index: tissue.rim[tuple(index)])
        box, distance = _around(look, tissue, voxel, random.uniform(90, 200))
        fade = 1 - _step(distance / (distance[0, 0, 0] + 1) * np.float32(1.6))
        side = np.where(tissue.cell[box] == tissue.cell[tuple(voxel)], np.float32(28), np.float32(12))
        _blend(image[box], np.float32(look.synapse_grey), fade * (1 - _step(tissue.rim[box] / side - np.float32(0.3))))


def _add_reticulum(random, look, tissue, image):
    """Tubules with a thin membrane and a pale lumen, inside one cell."""
    for _ in range(_number(random, look, image.shape, look.reticulum_density)):
        tube = _draw_tube(random, tissue, look.reticulum_radius_nm, (40, 420), 0.4, inside=8)
        box = _tube_box(look, tissue, tube, look.membrane_nm)
        depth = _tube_geometry(tissue, tube, box)[0]
        within = (tissue.cell[box] == tissue.cell[tube.voxel]) * _step(tissue.rim[box] / np.float32(25))
        _blend(image[box], image[box] + np.float32(10), within * _step(depth / 8))
        _blend(image[box], np.float32(look.vesicle_grey), within * _line(depth, np.float32(look.membrane_nm * 0.8)))


def _add_vesicles(random, look, tissue, image):
    """Clusters of synaptic vesicles (40 nm, pale inside) and single dense-core vesicles (dark inside)."""
    for _ in range(_number(random, look, image.shape, look.cluster_density)):
        centre = random.integers(0, image.shape)
        places = centre + random.normal(0, 130, (random.integers(25, 80), 3)) / _voxel_nm(look)
        for place in places.round().astype(int):
            _add_vesicle(look, tissue, image, place, tissue.cell[tuple(centre)], 20, look.vesicle_core, look.vesicle_grey)
    for _ in range(_number(random, look, image.shape, look.core_density)):
        place = random.integers(0, image.shape)
        _add_vesicle(look, tissue, image, place, tissue.cell[tuple(place)], random.uniform(*look.core_radius_nm), 1.0,
                     look.synapse_grey)


def _add_vesicle(look, tissue, image, place, cell, radius, core, grey):
    if not all(0 <= index < size for index, size in zip(place, image.shape, strict=True)):
        return
    if tissue.cell[tuple(place)] != cell or tissue.rim[tuple(place)] < radius + 12:
        return
    box, distance = _around(look, tissue, place, radius + 15)
    ring = _line(distance - np.float32(radius - 4), np.float32(10)) * np.float32(0.7)
    inside = (1 - _step((distance - np.float32(radius - 12)) / 12)) * np.float32(core)
    _blend(image[box], np.float32(look.vesicle_grey), ring)
    _blend(image[box], np.float32(grey), inside)


# --- The microscope ---


def _expose(random, look, image):
    """The tissue's greys as the microscope records them: blurred, shaded, noisy, uint8."""
    shading = _smooth_field(random, image.shape, (1, 160, 160))
    clouds = look.cloud_nm / 2 / look.pixel_size_nm
    scale = np.float32(2 * np.sqrt(np.pi) * clouds * look.clouds)
    exposed = np.empty(image.shape, np.uint8)
    for z, section in enumerate(image):
        section = ndimage.gaussian_filter(section, look.blur_nm / look.pixel_size_nm, truncate=3)
        middle = np.float32(128)
        gain, offset = 1 + random.normal(0, look.section_gain), random.normal(0, look.section_offset)
        section = (section - middle) * np.float32(gain) + middle + np.float32(offset) + np.float32(look.shading) * shading[z]
        section += scale * ndimage.gaussian_filter(random.standard_normal(section.shape, np.float32), clouds, truncate=3)
        section += np.float32(look.grain) * random.standard_normal(section.shape, np.float32)
        exposed[z] = np.clip(np.rint(section), 0, 255).astype(np.uint8)
    return exposed
