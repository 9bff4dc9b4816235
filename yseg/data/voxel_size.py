"""The size of a volume's voxels: what is given, what its file says, and whether both can be meant."""

from yseg.config import IGNORED, Domain, InputError
from yseg.volumes.opened import OpenedVolume, VoxelSize
from yseg.volumes.voxel_size import differ

_LEAST_NM, _LARGEST_NM = 0.1, 2000.0  # of a pixel, or between sections, in electron microscopy
_UNITS = ((1e3, "micrometres"), (1e6, "millimetres"), (1e9, "metres"))


def wanted_nm(domain: Domain, working_pixel_size_nm: float) -> float | None:
    """The pixel size by which one of several resolutions is chosen; None = the finest is taken."""
    return None if domain.metadata == IGNORED else domain.pixel_size_nm or working_pixel_size_nm


def check_alike(domain: Domain, found: OpenedVolume, flag: str) -> None:
    """InputError if the files of an image say different sizes of its voxels. Arguments as of `pixel_size_nm`."""
    if found.unlike_sizes and domain.metadata != IGNORED:
        raise InputError(f"{flag_of(flag, 'image')}={domain.image}: its files say different sizes of a voxel,"
                         f" {found.unlike_sizes}; all sections must be alike{_way_out(flag, flag_of(flag, 'pixel_size_nm'))}")


def pixel_size_nm(domain: Domain, voxel_nm: VoxelSize, flag: str) -> float:
    """The size of a pixel in y and x.

    Args:
      domain: its `pixel_size_nm` is what is given, 0 = nothing.
      voxel_nm: what the file says.
      flag: the domain's, as in `yseg.data.domain.open_domain`.

    Returns:
      float, what is given or else what the file says; 0 if neither says anything.

    Raises:
      InputError: they contradict each other, or cannot be meant.
    """
    given, name = domain.pixel_size_nm, flag_of(flag, "pixel_size_nm")
    if given:
        _check_given(given, name)
    _, rows, columns = voxel_nm
    if domain.metadata == IGNORED or not (rows or columns):
        return given
    _, said = sorted((rows or columns or 0.0, columns or rows or 0.0))
    if rows and columns and differ(rows, columns):
        raise InputError(f"{_file(domain, flag)} that a pixel measures {rows:g} x {columns:g} nm in y and x; must be square"
                         f"{_way_out(flag, name)}")
    return _agreed(given, said, domain, flag, name, "a pixel measures")


def section_nm(domain: Domain, voxel_nm: VoxelSize, flag: str) -> float:
    """The distance of neighbouring sections; 0 if nothing says it. Arguments and errors as of `pixel_size_nm`."""
    given, name = domain.section_nm, flag_of(flag, "section_nm")
    if given:
        _check_given(given, name)
    said = voxel_nm[0]
    if domain.metadata == IGNORED or not said:
        return given
    return _agreed(given, said, domain, flag, name, "neighbouring sections lie apart by")


def flag_of(flag: str, name: str) -> str:
    """The flag of a domain's knob: "--GROUP" gives --GROUP.NAME, and "-" gives --NAME."""
    return f"{flag}.{name}" if flag.startswith("--") else f"--{name}"


def _agreed(given: float, said: float, domain: Domain, flag: str, name: str, what: str) -> float:
    if not _LEAST_NM <= said <= _LARGEST_NM:
        raise InputError(f"{_file(domain, flag)} that {what} {said:g} nm; must be from {_LEAST_NM:g} to {_LARGEST_NM:g} nm in"
                         f" electron microscopy{_other_unit(said)}{_way_out(flag, name)}")
    if given and differ(given, said):
        raise InputError(f"{name}={given:g}: {_file(domain, flag)} that {what} {said:g} nm; leave {name} out, or give"
                         f" {flag_of(flag, 'metadata')}={IGNORED} if the file is wrong")
    return given or said


def _check_given(given: float, name: str) -> None:
    if not _LEAST_NM <= given <= _LARGEST_NM:
        raise InputError(f"{name}={given:g}: must be from {_LEAST_NM:g} to {_LARGEST_NM:g} nm in electron microscopy"
                         f"{_other_unit(given)}")


def _other_unit(size: float) -> str:
    """What a size that is no number of nm may be meant as."""
    return next((f"; {size:g} {unit} are {size * factor:g} nm" for factor, unit in _UNITS
                 if 1 <= size * factor <= _LARGEST_NM / 2), "")


def _file(domain: Domain, flag: str) -> str:
    return f"{flag_of(flag, 'image')}={domain.image} says"


def _way_out(flag: str, name: str) -> str:
    return f"; if the file is wrong, give {name} with {flag_of(flag, 'metadata')}={IGNORED}"
