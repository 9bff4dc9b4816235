"""How the tissue of the phantom looks: in the source, in the target, and anywhere between the two.

Lengths are nm, greys are grey levels of the finished image (0 = black).
"""

import dataclasses
from typing import Any

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Appearance:
    """What the tissue of a domain consists of and how its microscope shows it; a range is drawn from uniformly."""

    pixel_size_nm: float  # size of a pixel in y and x
    section_nm: float  # distance of two sections, and the thickness over which each is projected
    section_shift_nm: float  # standard deviation of the misalignment of each section
    # Cells.
    seed_spacing_nm: Range  # distance of the tessellation's seeds in z, and in y and x
    merge_spacing_nm: float  # diameter of the large cells that unite 60 % of the seeds; the others are small neurites
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
    reticulum_density: float  # tubules of the endoplasmic reticulum, 18 to 32 nm in radius
    cluster_density: float  # clusters of synaptic vesicles
    vesicle_grey: float  # grey of a vesicle's membrane
    vesicle_core: float  # how much of that grey fills the vesicle, 0 to 1
    core_density: float  # dense-core vesicles, 20 to 38 nm in radius
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
        pixel_size_nm=5.0, section_nm=15.0, section_shift_nm=0.5, seed_spacing_nm=(420.0, 250.0), merge_spacing_nm=900.0,
        warp_nm=(110.0, 24.0), warp_spacing_nm=(330.0, 110.0), stiffness=0.6, membrane_nm=17.0,
        membrane_grey=84.0, cytoplasm_grey=(154.0, 176.0), dark_cell_share=0.06, dark_cell_grey=(120.0, 135.0), granule_nm=24.0,
        granule_contrast=(5.0, 16.0), granule_threshold=-0.7, mitochondrion_share=0.075, mitochondrion_radius_nm=(95.0, 150.0),
        mitochondrion_length_nm=(150.0, 900.0), sheath_nm=45.0, matrix_grey=(104.0, 116.0), envelope_grey=78.0,
        envelope_nm=(9.0, 20.0), cristae_period_nm=(46.0, 64.0), cristae_nm=20.0, cristae_contrast=(14.0, 32.0),
        lumen_contrast=16.0, body_density=0.5, body_radius_nm=(40.0, 80.0), body_grey=(60.0, 80.0), reticulum_density=12.0,
        cluster_density=14.0, vesicle_grey=92.0, vesicle_core=0.5, core_density=2.0, synapse_density=3.0, synapse_grey=82.0,
        blur_nm=5.0, grain=8.0, clouds=4.0, cloud_nm=25.0, shading=2.5, section_offset=1.0, section_gain=0.01),
    "target": Appearance(
        pixel_size_nm=4.6, section_nm=50.0, section_shift_nm=6.0, seed_spacing_nm=(380.0, 150.0), merge_spacing_nm=800.0,
        warp_nm=(85.0, 24.0), warp_spacing_nm=(300.0, 75.0), stiffness=0.7, membrane_nm=15.0, membrane_grey=25.0,
        cytoplasm_grey=(172.0, 202.0), dark_cell_share=0.1, dark_cell_grey=(85.0, 115.0), granule_nm=11.0,
        granule_contrast=(18.0, 42.0), granule_threshold=0.0, mitochondrion_share=0.07, mitochondrion_radius_nm=(70.0, 145.0),
        mitochondrion_length_nm=(40.0, 450.0), sheath_nm=35.0, matrix_grey=(112.0, 142.0), envelope_grey=48.0,
        envelope_nm=(8.0, 18.0), cristae_period_nm=(34.0, 52.0), cristae_nm=13.0, cristae_contrast=(40.0, 75.0),
        lumen_contrast=35.0, body_density=2.5, body_radius_nm=(50.0, 120.0), body_grey=(60.0, 95.0), reticulum_density=8.0,
        cluster_density=8.0, vesicle_grey=80.0, vesicle_core=0.0, core_density=6.0, synapse_density=6.0, synapse_grey=25.0,
        blur_nm=3.2, grain=11.0, clouds=7.0, cloud_nm=30.0, shading=7.0, section_offset=7.0, section_gain=0.08),
}
# What the microscope and the cutting do to any tissue; all other fields are of the tissue and its staining.
MICROSCOPE = ("section_nm", "section_shift_nm", "blur_nm", "grain", "clouds", "cloud_nm", "shading", "section_offset",
              "section_gain")


def appearance(domain: str, tissue: float | None = None, microscope: float | None = None) -> Appearance:
    """The Appearance of a domain, "source" or "target", or one between the two.

    Args:
      domain: whose pixel size it has.
      tissue, microscope: how much of the way from the source to the target, in [0, 1]; None = as the domain.
    """
    own, (source, target) = APPEARANCES[domain], (APPEARANCES[name] for name in ("source", "target"))
    fields = {}
    for name in (field.name for field in dataclasses.fields(Appearance)):
        way = microscope if name in MICROSCOPE else tissue
        if way is None or name == "pixel_size_nm":
            fields[name] = getattr(own, name)
        else:
            fields[name] = _between(getattr(source, name), getattr(target, name), way)
    return Appearance(**fields)


def _between(first: Any, last: Any, way: float) -> Any:
    if isinstance(first, tuple):
        return tuple(_between(one, other, way) for one, other in zip(first, last, strict=True))
    return (1 - way) * first + way * last
