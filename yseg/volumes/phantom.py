"""Procedural EM-like volumes in two domains: the embedded default and the tests' data.

Neural tissue made of formulas: cells of a warped Voronoi tessellation, mitochondria (the foreground) with two membranes and
cristae, and what can be taken for them. The `source` looks like FIB-SEM of mouse (soft, thin sections, dark mitochondria),
the `target` like ssTEM of fly (crisp, high contrast, thick sections, pale mitochondria with dark cristae, many dark bodies).

Lengths are nm, greys are grey levels of the finished image (0 = black). At full resolution only + - * / and sqrt are used, which
every machine rounds alike, so that the bytes depend on the arguments alone.
"""

import dataclasses

import numpy as np
from scipy import ndimage, spatial

from yseg.config import InputError
from yseg.volumes.appearance import APPEARANCES, Appearance, appearance

PIXEL_SIZE_NM = {name: look.pixel_size_nm for name, look in APPEARANCES.items()}
SECTION_NM = {name: look.section_nm for name, look in APPEARANCES.items()}

_TILE = 8  # pixels; the seeds nearest to a pixel are looked up once for a square of this side


@dataclasses.dataclass
class Tissue:
    """The volume while it is made, filled in place; every array is [z, y, x]."""

    position: np.ndarray  # [3, z, y, x] nm: where each voxel lies, as the stiff organelles see it
    cell: np.ndarray  # number of the cell
    rim: np.ndarray  # distance to the cell's surface, nm
    tilt: np.ndarray  # |z| of the surface's normal: 0 = seen edge-on, 1 = parallel to the section
    organelle: np.ndarray  # grey of mitochondria and dark bodies
    cover: np.ndarray  # how opaquely they cover the cytoplasm, 0 to 1
    labels: np.ndarray  # 1 = mitochondrion


def phantom(domain: str, shape: tuple[int, ...] = (24, 384, 384), seed: int = 0, *, tissue: float | None = None,
            microscope: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """An EM-like volume with its mitochondria: (image, labels), both uint8 [z, y, x]; labels are 1 in mitochondria, 0 elsewhere.

    The same arguments give the same bytes.

    Args:
      domain: "source" (like FIB-SEM of mouse) or "target" (like ssTEM of fly).
      shape: sections, rows and columns, of PIXEL_SIZE_NM[domain].
      seed: whole number of at least 0.
      tissue, microscope: how far what is seen and how it is seen are from the source's (0) towards the target's (1); None = as
        the domain.

    Raises:
      InputError: an argument is none of these.
    """
    if domain not in APPEARANCES:
        raise InputError(f"phantom domain {domain!r}: must be one of {', '.join(APPEARANCES)}")
    if len(shape) != 3 or not all(isinstance(size, int | np.integer) and size > 0 for size in shape):
        raise InputError(f"phantom shape {shape!r}: must be three positive whole numbers (sections, rows, columns)")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"phantom seed {seed!r}: must be a whole number of at least 0")
    for name, way in (("tissue", tissue), ("microscope", microscope)):
        if way is not None and not 0 <= way <= 1:
            raise InputError(f"phantom {name} {way!r}: must be at least 0 and at most 1")
    look = appearance(domain, tissue, microscope)
    random = np.random.Generator(np.random.PCG64([int(seed), list(APPEARANCES).index(domain)]))
    grid, warp = _deformation(random, look, shape)
    cell, rim, tilt = _cells(random, look, grid + warp)
    volume = Tissue(grid + np.float32(1 - look.stiffness) * warp, cell, rim, tilt,
                    np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.uint8))
    _add_mitochondria(random, look, volume)
    _add_bodies(random, look, volume)
    image = _draw_cells(random, look, volume)
    _add_synapses(random, look, volume, image)
    _add_reticulum(random, look, volume, image)
    _add_vesicles(random, look, volume, image)
    _blend(image, volume.organelle, volume.cover)
    return _expose(random, look, image), volume.labels


def _voxel_nm(look: Appearance) -> np.ndarray:
    return np.array([look.section_nm, look.pixel_size_nm, look.pixel_size_nm])


def _number(random: np.random.Generator, look: Appearance, shape: tuple[int, ...], density: float) -> int:
    """How many structures of a density (in a cubic micrometre) the volume gets; at least 1, which small volumes need."""
    return 1 + random.poisson(density * np.prod(_voxel_nm(look) * shape) * 1e-9)


def _smooth_field(random: np.random.Generator, shape: tuple[int, ...], spacing: np.ndarray | tuple[float, ...]) -> np.ndarray:
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


def _correlated_noise(random: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian noise float32 [y, x] of unit variance, white noise filtered by a Gaussian of `sigma` pixels."""
    noise = ndimage.gaussian_filter(random.standard_normal(shape, np.float32), sigma, truncate=3)
    return noise * np.float32(2 * np.sqrt(np.pi) * sigma)


def _step(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between: the antialiased edge of everything that is drawn."""
    x = np.clip(x, np.float32(0), np.float32(1))
    return x * x * (3 - 2 * x)


def _line(distance: np.ndarray, width: float | np.floating | np.ndarray) -> np.ndarray:
    """The profile of a membrane `width` nm thick at `distance` nm from its middle: 1 to 0."""
    return 1 - _step(np.abs(distance) / width)


def _blend(image: np.ndarray, grey: float | np.floating | np.ndarray, cover: np.ndarray) -> None:
    """Lay `grey` over `image` with opacity `cover`, in place."""
    image += (grey - image) * cover


def _deformation(random: np.random.Generator, look: Appearance, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Where each voxel lies (sections are misaligned), and how far two smooth deformations move it: nm, float32 [3, z, y, x]."""
    voxel = _voxel_nm(look)
    axes = ((np.arange(size) * step).astype(np.float32) for size, step in zip(shape, voxel, strict=True))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    grid[1:] += random.normal(0, look.section_shift_nm, (2, shape[0], 1, 1)).astype(np.float32)
    warp = [sum(np.float32(amplitude) * _smooth_field(random, shape, spacing / voxel)
                for amplitude, spacing in zip(look.warp_nm, look.warp_spacing_nm, strict=True)) for _ in range(3)]
    return grid, np.stack(warp)


def _cells(random: np.random.Generator, look: Appearance, position: np.ndarray) -> tuple[np.ndarray, ...]:
    """(cell, rim, tilt) [z, y, x], see Tissue: cells are unions of Voronoi regions, of seeds on a jittered lattice with gaps."""
    spacing = np.array(look.seed_spacing_nm)[[0, 1, 1]]
    extent, margin = _voxel_nm(look) * position.shape[1:], 4 * look.warp_nm[0] + spacing
    lattice = np.mgrid[tuple(slice(size) for size in np.ceil((extent + 2 * margin) / spacing).astype(int))].reshape(3, -1).T
    seeds = (lattice + random.uniform(0.05, 0.95, lattice.shape)) * spacing - margin
    seeds = seeds[random.random(len(seeds)) < 0.65]
    large = 1 + int(np.prod((extent + 2 * margin) / look.merge_spacing_nm))
    nearest_large = spatial.cKDTree(random.uniform(-margin, extent + margin, (large, 3))).query(seeds)[1]
    cell_of_seed = np.where(random.random(len(seeds)) < 0.6, nearest_large, large + np.arange(len(seeds)))
    tree, seeds, cell_of_seed = spatial.cKDTree(seeds), seeds.astype(np.float32), cell_of_seed.astype(np.int32)
    sections = [_tessellate(position[:, z], tree, seeds, cell_of_seed) for z in range(position.shape[1])]
    return tuple(np.stack(layer) for layer in zip(*sections, strict=True))


def _tessellate(position, tree, seeds, cell_of_seed):
    """(cell, rim, tilt) [y, x] of one section from its position [3, y, x]."""
    rows, columns = position.shape[1:]
    middle = position[:, np.minimum(np.arange(0, rows, _TILE) + _TILE // 2, rows - 1)]
    middle = middle[:, :, np.minimum(np.arange(0, columns, _TILE) + _TILE // 2, columns - 1)]
    candidates = np.moveaxis(tree.query(np.moveaxis(middle, 0, -1), k=8)[1], -1, 0)

    def spread(tiles):
        return tiles.repeat(_TILE, 0).repeat(_TILE, 1)[:rows, :columns]

    powers = [spread((seeds[which] ** 2).sum(-1)) - sum(spread(2 * seeds[which, axis]) * position[axis] for axis in range(3))
              for which in candidates]

    def nearest(excluded=-1):
        """The nearest seed whose cell is not `excluded`, and its power: squared distance less |position|^2, which all share."""
        least, seed = np.full((rows, columns), np.inf, np.float32), np.zeros((rows, columns), np.int32)
        for which, power in zip(candidates, powers, strict=True):
            closer = (power < least) & (spread(cell_of_seed[which]) != excluded)
            np.copyto(least, power, where=closer)
            np.copyto(seed, spread(which.astype(np.int32)), where=closer)
        return seed, least

    first, first_power = nearest()
    second, second_power = nearest(excluded=cell_of_seed[first])
    between = seeds[second] - seeds[first]
    length = np.sqrt((between * between).sum(-1)) + np.float32(1e-3)
    rim = (second_power - first_power) / (2 * length)  # distance to the plane halfway between the two seeds
    return cell_of_seed[first], np.minimum(rim, np.float32(1e4)), np.abs(between[..., 0]) / length


def _tube(random, look, tissue, radius, length, margin, level=0.0):
    """A bent capsule (mitochondrion, tubule, dark body) in a random place deep in a cell: its shape and where it lies.

    Radius and length of its axis are drawn from ranges; `level` in [0, 1) turns it into the plane of the section. Returns cell,
    the box (slices) of all voxels within `margin` nm, and of each of these: depth under the surface (nm, negative outside), place
    along and across the axis (nm), |z| of the surface's normal.
    """
    voxels = random.integers(0, tissue.cell.shape, (6, 3))
    middle = tuple(voxels[np.argmax([tissue.rim[tuple(voxel)] for voxel in voxels])])
    along, across = random.standard_normal((2, 3))
    along[0] *= 1 - level
    along /= np.sqrt((along * along).sum())
    across -= along * (along * across).sum()
    across /= np.sqrt((across * across).sum())
    axes = along, across, np.cross(along, across)
    half, radius = random.uniform(*length) / 2, random.uniform(*radius)
    bends = random.normal(0, 0.3 * half, 2)  # sideways displacement of the ends
    reach = sum(np.abs(axis) * size for axis, size in zip(axes, (half, *np.abs(bends)), strict=True))
    reach += radius + margin + 2.5 * (1 - look.stiffness) * look.warp_nm[0]  # the deformation may carry it aside
    steps = np.ceil(reach / _voxel_nm(look)).astype(int)
    box = tuple(slice(max(at - step, 0), at + step + 1) for at, step in zip(middle, steps, strict=True))
    offset = tissue.position[(slice(None), *box)] - tissue.position[(slice(None), *middle)][:, None, None, None]
    u, v, w = (sum(np.float32(component) * offset[i] for i, component in enumerate(axis)) for axis in axes)
    curve = u * u / np.float32((half + radius) ** 2)
    v, w = v - np.float32(bends[0]) * curve, w - np.float32(bends[1]) * curve
    beyond = u - np.clip(u, np.float32(-half), np.float32(half))
    distance = np.sqrt(beyond * beyond + v * v + w * w) + np.float32(1e-3)
    normal = sum(np.float32(axis[0]) * part for axis, part in zip(axes, (beyond, v, w), strict=True))
    return tissue.cell[middle], box, np.float32(radius) - distance, u, v, np.abs(normal) / distance


def _embed(look, tissue, box, depth, tilt, cell, sheath, edge, grey):
    """Put an organelle with an edge `edge` nm wide into the tissue, its cell's cytoplasm at least `sheath` nm around it."""
    rim, reach = tissue.rim[box], depth + np.float32(sheath)
    rim[...] = np.where(tissue.cell[box] == cell, np.maximum(rim, reach), np.where(reach > 0, reach, np.minimum(rim, -reach)))
    tissue.cell[box][reach > 0] = cell
    cover = _step(depth / (edge + tilt * np.float32(look.section_nm / 3)) + np.float32(0.5))  # an oblique surface is blurred
    np.copyto(tissue.organelle[box], grey, where=cover > 0)
    np.maximum(tissue.cover[box], cover, out=tissue.cover[box])


def _add_mitochondria(random: np.random.Generator, look: Appearance, tissue: Tissue) -> None:
    missing = wanted = look.mitochondrion_share * tissue.labels.size
    for attempt in range(1000):  # the last one may be too large, within reason; a tiny volume may have no room
        cell, box, depth, along, across, tilt = _tube(random, look, tissue, look.mitochondrion_radius_nm,
                                                      look.mitochondrion_length_nm, 2 * look.sheath_nm, level=0.5)
        size, near = np.count_nonzero(depth > 0), depth > -2 * look.sheath_nm
        if size < missing + (0.4 + attempt / 300) * wanted and not tissue.labels[box][near].any():
            grey = _mitochondrion(random, look, depth, along, across, tilt)
            _embed(look, tissue, box, depth, tilt, cell, look.sheath_nm, look.pixel_size_nm, grey)
            tissue.labels[box][depth > 0] = 1
            missing -= size
            if missing <= 0:
                break


def _mitochondrion(random, look, depth, along, across, tilt):
    """Grey inside a mitochondrion: matrix, cristae (broken sheets across or oblique to its axis), outer and inner membrane."""
    width, gap = look.envelope_nm
    period, slope = random.uniform(*look.cristae_period_nm), np.float32(random.uniform(-1, 1))
    bumps, breaks = (_smooth_field(random, depth.shape, 1.4 * period / _voxel_nm(look)) for _ in range(2))
    phase = (along + slope * across) / (np.float32(period) * np.sqrt(1 + slope * slope)) + bumps * np.float32(0.22)
    wave = np.abs(2 * (phase - np.floor(phase)) - 1)
    unbroken = _step(breaks + 1) * _step((depth - gap - width) / (2 * width))
    cristae = np.float32(random.uniform(*look.cristae_contrast)) * _line(wave, np.float32(look.cristae_nm / period))
    grey = random.uniform(*look.matrix_grey) + unbroken * (look.lumen_contrast * _step(2 * wave - 1) - cristae)
    blurred = width + tilt * np.float32(look.section_nm / 4)
    envelope = np.maximum(_line(depth - width / 2, blurred), _line(depth - gap, blurred)) * np.sqrt(width / blurred)
    _blend(grey, np.float32(look.envelope_grey), envelope)
    return grey


def _add_bodies(random: np.random.Generator, look: Appearance, tissue: Tissue) -> None:
    """Dark bodies, where there is room."""
    for _ in range(_number(random, look, tissue.cell.shape, look.body_density)):
        cell, box, depth, _, _, tilt = _tube(random, look, tissue, look.body_radius_nm, (0, 150), look.sheath_nm)
        if not (tissue.cover[box][depth > -look.sheath_nm] > 0).any():
            grey = random.uniform(*look.body_grey) + np.float32(8) * _smooth_field(random, depth.shape, 25 / _voxel_nm(look))
            _embed(look, tissue, box, depth, tilt, cell, look.sheath_nm / 2, 3 * look.pixel_size_nm, grey)


def _draw_cells(random: np.random.Generator, look: Appearance, tissue: Tissue) -> np.ndarray:
    """Grey of the cytoplasm, of each cell its own, with dark granules, and of the membranes."""
    cells = int(tissue.cell.max()) + 1
    dark = random.random(cells) < look.dark_cell_share
    grey = np.where(dark, random.uniform(*look.dark_cell_grey, cells), random.uniform(*look.cytoplasm_grey, cells))
    grey, contrast = grey.astype(np.float32), random.uniform(*look.granule_contrast, cells).astype(np.float32)
    image = grey[tissue.cell]
    for section, cell in zip(image, tissue.cell, strict=True):
        granules = _correlated_noise(random, section.shape, look.granule_nm / 2 / look.pixel_size_nm)
        section -= contrast[cell] * np.maximum(granules - np.float32(look.granule_threshold), 0)
    spread = np.float32(look.membrane_nm) + tissue.tilt * np.float32(look.section_nm * 2 / 3)  # oblique ones are wide and pale
    _blend(image, np.float32(look.membrane_grey), np.sqrt(look.membrane_nm / spread) * _line(tissue.rim, spread))
    return image


def _around(look, tissue, voxel, radius):
    """The box within `radius` nm of a voxel, and the distance of each of its voxels from there, nm."""
    size = _voxel_nm(look)
    box = tuple(slice(max(int(at - radius / step), 0), int(at + radius / step) + 1) for at, step in zip(voxel, size, strict=True))
    z, y, x = (((np.arange(count)[span] - at) * step).astype(np.float32) ** 2
               for count, span, at, step in zip(tissue.cell.shape, box, voxel, size, strict=True))
    return box, np.sqrt(z[:, None, None] + y[:, None] + x)


def _add_synapses(random: np.random.Generator, look: Appearance, tissue: Tissue, image: np.ndarray) -> None:
    """Dark densities along membranes."""
    for _ in range(_number(random, look, image.shape, look.synapse_density)):
        voxels = random.integers(0, image.shape, (60, 3))
        voxel = tuple(voxels[np.argmin([tissue.rim[tuple(voxel)] for voxel in voxels])])
        box, distance = _around(look, tissue, voxel, radius := random.uniform(70, 130))
        along, across = _step(distance / np.float32(radius)), _step(tissue.rim[box] / 26 - np.float32(0.2))
        _blend(image[box], np.float32(look.synapse_grey), (1 - along) * (1 - across))


def _add_reticulum(random: np.random.Generator, look: Appearance, tissue: Tissue, image: np.ndarray) -> None:
    """Tubules with a thin membrane and a pale lumen, inside one cell."""
    for _ in range(_number(random, look, image.shape, look.reticulum_density)):
        cell, box, depth, *_ = _tube(random, look, tissue, (18, 32), (40, 420), look.membrane_nm)
        within = (tissue.cell[box] == cell) * _step(tissue.rim[box] / 25)
        image[box] += 10 * within * _step(depth / 8)
        _blend(image[box], np.float32(look.vesicle_grey), within * _line(depth, np.float32(look.membrane_nm * 0.8)))


def _add_vesicles(random: np.random.Generator, look: Appearance, tissue: Tissue, image: np.ndarray) -> None:
    """Clusters of synaptic vesicles (40 nm across) and single dense-core vesicles: balls with a membrane."""
    cores = random.integers(0, image.shape, (_number(random, look, image.shape, look.core_density), 3))
    vesicles = [(spot, random.uniform(20, 38), look.synapse_grey, 1.0) for spot in cores]
    for _ in range(_number(random, look, image.shape, look.cluster_density)):
        centre = random.integers(0, image.shape)
        spots = (centre + random.normal(0, 110, (random.integers(30, 90), 3)) / _voxel_nm(look)).round().astype(int)
        spots = spots[((spots >= 0) & (spots < image.shape)).all(1)]
        spots = spots[tissue.cell[tuple(spots.T)] == tissue.cell[tuple(centre)]]
        vesicles += [(spot, 20, look.vesicle_grey, look.vesicle_core) for spot in spots]
    for spot, radius, grey, opacity in vesicles:
        if tissue.rim[tuple(spot)] > radius + 8:
            box, distance = _around(look, tissue, spot, radius + 15)
            distance -= np.float32(radius)
            _blend(image[box], np.float32(look.vesicle_grey), np.float32(0.8) * _line(distance + 4, np.float32(10)))
            _blend(image[box], np.float32(grey), np.float32(opacity) * (1 - _step(distance / 12 + 1)))


def _expose(random: np.random.Generator, look: Appearance, image: np.ndarray) -> np.ndarray:
    """The tissue's greys as the microscope records them: blurred, shaded, noisy, uint8."""
    shading = np.float32(look.shading) * _smooth_field(random, image.shape, (1, 160, 160))
    exposed = np.empty(image.shape, np.uint8)
    for z, section in enumerate(image):
        section = ndimage.gaussian_filter(section, look.blur_nm / look.pixel_size_nm, truncate=3)
        gain, offset = random.normal((1, 128), (look.section_gain, look.section_offset)).astype(np.float32)
        section = (section - 128) * gain + offset + shading[z]
        section += np.float32(look.clouds) * _correlated_noise(random, section.shape, look.cloud_nm / 2 / look.pixel_size_nm)
        section += np.float32(look.grain) * random.standard_normal(section.shape, np.float32)
        exposed[z] = np.clip(np.rint(section), 0, 255).astype(np.uint8)
    return exposed
