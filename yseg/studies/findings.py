"""What looks wrong with the volumes of an experiment, in plain words: each with its numbers, and what to change.

A rule is silent in doubt. What its bounds rest on is said beside them.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from yseg.config import VOLUME
from yseg.data.labels import parse_rule
from yseg.studies.look import Look

# Dark lines are stronger by 0.12 (EPFL), 0.24 (VNC) and 0.2 to 0.3 (phantom) in the log, the same below 0 where inverted.
POLARITY, AGREEING = 0.04, 0.8  # that a volume shows at least, and in which share of its sections
SMALLEST, LARGEST = 15.0, 80.0  # working pixels of objects that are tolerable: a quarter beyond the 20 to 60 of README
BEST_SIZE = 30.0  # at which the suggested pixel size has them
UPSAMPLED = 1.5  # of a pixel in working pixels, from which the grid is too fine
TINY, HUGE = 0.002, 0.6  # shares of foreground
NEIGHBOURS, FEWEST = 3, 5  # sections on either side that a section is compared with; that there are at least
# Sections of EPFL, VNC and the phantom differ by up to 0.3 deviations and a factor of 1.4 in contrast.
OFF_MEAN, OFF_CONTRAST = 0.6, 1.67
DRIFT = 1.0  # deviations between the darkest and the brightest part along z
SPACING = 2.0  # factor of seen and given distances of sections; of EPFL, VNC and the phantom it is 0.8 to 1.4
LISTED = 5  # sections that are named
UNRELATED, CHANCE_OBJECTS = 4.5, 15  # deviations that chance reaches anywhere; objects below which nothing is said
SHIFTED, NOT_HERE, LEAST_SHIFT = 8.0, 0.6, 4.0  # deviations; share of them that labels have as they are; working pixels
CLASSES = 10  # label values, up to which they may be classes and not numbers of objects
PIECES, IN_SECTIONS = 2.0, 0.5  # components of a section, and share of sections, from which a value is a class

Texts = Iterator[tuple[str, str]]  # of a rule: its name, and a line without the domain's name


class Finding(NamedTuple):
    """What looks wrong: the rule that found it, of which domain ("source", "target" or "both"), and a line for people."""

    rule: str
    domain: str
    text: str


def findings_of(looks: Sequence[Look]) -> list[Finding]:
    """The Findings of the source and the target, or of the target alone, those of both first; none = nothing looks wrong."""
    found = []
    if len(looks) == 2:
        found += [*_same_volume(*looks), *_inverted(*looks)]
    for look in looks:
        for rule in (_labels_are_image, _object_size, _too_fine, _share, _values, _misfit, _spacing, _lost, _uneven, _drift,
                     _saturated):
            found += [Finding(name, look.name, f"{look.name}: {text}") for name, text in rule(look)]
    return found


# --- Both volumes ---


def _same_volume(source, target) -> Iterator[Finding]:
    alike = source.shape == target.shape and np.ptp(source.corner) and np.array_equal(source.corner, target.corner)
    if source.image == target.image or alike:
        how = "is the same file" if source.image == target.image else "holds the same voxels in another file"
        yield Finding("same_volume", "both", f"source and target: {target.image} {how}, so that there is nothing to adapt to;"
                      " give another volume as target.image")


def _inverted(source, target) -> Iterator[Finding]:
    signs = []
    for look in (source, target):
        values, middle = np.array(look.polarity), float(np.median(look.polarity)) if look.polarity else 0.0
        if abs(middle) < POLARITY or np.mean(np.sign(values) == np.sign(middle)) < AGREEING:
            return
        signs.append(middle)
    if np.sign(signs[0]) != np.sign(signs[1]):
        said = [f"in the {name} thin {'dark' if sign > 0 else 'bright'} lines are {math.expm1(abs(sign)):.0%} stronger than"
                f" {'bright' if sign > 0 else 'dark'} ones" for name, sign in zip(("source", "target"), signs, strict=True)]
        odd = "source" if signs[0] < 0 else "target"
        yield Finding("inverted", "both", f"contrast is probably inverted: {said[0]}, {said[1]}, as if membranes were dark in one"
                      f" and bright in the other; invert the grey levels of the {odd} (Fiji: Edit > Invert) and give the new"
                      f" volume as {odd}.image")


# --- Labels and sizes ---


def _labels_are_image(look: Look) -> Texts:
    if look.labels and look.labels_path == look.image:
        yield "labels_are_image", (f"image and labels are the same file, {look.image}; give the label volume as"
                                   f" {look.name}.labels")


def _object_size(look: Look) -> Texts:
    size = look.labels.size if look.labels else None
    if not size or SMALLEST <= size <= LARGEST:
        return
    size_nm = size * look.working_pixel_size_nm
    yield "object_size", (f"labelled objects are typically {size:.1f} working pixels ({size_nm:.0f} nm) wide, and should be 20 to"
                          f" 60; if {look.name}.pixel_size_nm={look.pixel_size_nm:g} is right, sampling.working_pixel_size_nm="
                          f"{float(f'{size_nm / BEST_SIZE:.2g}'):g} makes them {BEST_SIZE:.0f}")


def _too_fine(look: Look) -> Texts:
    if look.pixel_size_nm >= UPSAMPLED * look.working_pixel_size_nm:
        yield "too_fine", (f"its pixels of {look.pixel_size_nm:g} nm are larger than working pixels of"
                           f" {look.working_pixel_size_nm:g} nm, so that most of what the network sees is interpolated; if"
                           f" {look.name}.pixel_size_nm is right, sampling.working_pixel_size_nm={look.pixel_size_nm:g} loses"
                           " nothing")


def _share(look: Look) -> Texts:
    if not look.labels or TINY <= look.labels.share <= HUGE:
        return
    tiny = look.labels.share < TINY
    yield "share", (f"{_percent(look.labels.share)} of what is labelled is foreground, which is"
                    f" {'little to learn from' if tiny else 'more than a structure usually fills'}; does"
                    f" {look.name}.foreground={look.labels.rule!r} say which label values are meant?{_seen(look.labels)}")


def _values(look: Look) -> Texts:
    labels = look.labels
    if not labels or not labels.values:
        return
    rule = parse_rule(labels.rule, "foreground")
    if rule.name == "classes":
        return
    flag = f"{look.name}.foreground={labels.rule!r}"
    there = {value.value for value in labels.values}
    absent = [f"{float(value):g}" for value in rule.values if float(value) not in there] if rule.name == "==" else []
    if absent:
        yield "label_values", (f"{flag} names {', '.join(absent)}, which no section that was looked at holds; is it meant?"
                               f"{_seen(labels)}")
    taken = [value for value in labels.values if rule.holds(np.array([value.value]))[0]]
    classes = [value for value in taken if value.pieces >= PIECES and value.sections >= IN_SECTIONS]
    if rule.name != "==" and len(taken) <= CLASSES and len(classes) > 1:
        yield "label_values", (f"{flag} takes label values {_listed(taken)} for one structure, and they look like classes, each"
                               f" in several objects of a section; if one is meant, {look.name}.foreground='==VALUE'")


def _seen(labels):
    return f" Seen: {_listed(labels.values[:6])}" if labels.values else ""


def _listed(values):
    return ", ".join(f"{value.value:g} ({_percent(value.share)})" for value in values)


def _misfit(look: Look) -> Texts:
    fit = look.labels.fit if look.labels else None
    if not look.labels or not fit:
        return
    distance, files = math.hypot(*fit.shift), f"{look.name}.image and {look.name}.labels"
    if fit.best >= SHIFTED and fit.here < NOT_HERE * fit.best and distance >= LEAST_SHIFT:
        y, x = (round(step * look.working_pixel_size_nm / look.pixel_size_nm) for step in fit.shift)
        yield "misfit", (f"labels fit the image best if they are moved by about {y} voxels in y and {x} in x"
                         f" ({distance * look.working_pixel_size_nm:.0f} nm); are {files} cut and aligned alike?")
    elif fit.here < UNRELATED and len(look.labels.diameters) >= CHANCE_OBJECTS:
        yield "misfit", (f"what is labelled differs from what lies around it no more than other places do ({fit.here:.1f}"
                         f" deviations, chance reaches {UNRELATED:g}); do {files} belong together, with sections in the same"
                         " order, and neither mirrored nor turned?")


# --- Sections and grey levels ---


def _spacing(look: Look) -> Texts:
    given, seen = look.section_nm, look.seen_spacing_nm
    if given and seen and not 1 / SPACING <= seen / given <= SPACING:
        yield "spacing", (f"sections differ as if they were {seen:.3g} nm apart, though {look.name}.section_nm is {given:g}; is"
                          f" {look.name}.pixel_size_nm={look.pixel_size_nm:g} right"
                          f"{'' if seen < given else ', and are sections aligned'}?")


def _lost(look: Look) -> Texts:
    constant = look.sections.deviations == 0
    if not constant.any():
        return
    levels = sorted(set(look.sections.means[constant].tolist()))
    how = "a mask that is 0 there leaves out these sections"
    if len(levels) == 1 and levels[0].is_integer():
        how = f"{look.name}.mask=nodata={levels[0]:g} leaves out every pixel of this grey level"
    yield "lost_sections", f"{_named(look.sections.numbers[constant])} of one grey level, as if lost{_of_those(look)}; {how}"


def _uneven(look: Look) -> Texts:
    numbers, means, deviations = _present(look)
    if look.normalization != VOLUME or len(numbers) < FEWEST:
        return
    mean, deviation = _around(means), _around(deviations)
    brighter, stronger = np.abs(means - mean) / look.deviation, np.abs(np.log(deviations / deviation))
    off = (brighter > OFF_MEAN) | (stronger > math.log(OFF_CONTRAST))
    if off.any():
        worst = int(np.argmax(np.where(off, brighter + stronger, -1)))
        yield "uneven_sections", (f"{_named(numbers[off])} unlike the sections around{_of_those(look)} (section {numbers[worst]}:"
                                  f" mean {means[worst]:.4g} beside {mean[worst]:.4g}, deviation {deviations[worst]:.4g} beside"
                                  f" {deviation[worst]:.4g}); sampling.normalization=section makes sections alike, or a mask that"
                                  " is 0 in damaged ones leaves them out")


def _drift(look: Look) -> Texts:
    _, means, _ = _present(look)
    if look.normalization != VOLUME or len(means) < FEWEST:
        return
    smooth = _around(means)
    drift = float(np.ptp(smooth)) / look.deviation
    if drift > DRIFT:
        yield "drift", (f"the mean grey level goes from {smooth.min():.4g} to {smooth.max():.4g} along z, {drift:.1f} of its"
                        " deviations; sampling.normalization=section takes that out")


def _saturated(look: Look) -> Texts:
    for peak in look.peaks:
        yield "saturated", (f"{_percent(peak.share)} of the pixels have the {'lowest' if peak.lowest else 'highest'} grey level,"
                            f" {peak.level:g}, far more than have those beside it: they are saturated, or no data; if no data,"
                            f" {look.name}.mask=nodata={peak.level:g}")


def _present(look):
    """Numbers, means and deviations of sections that are not lost."""
    kept = look.sections.deviations > 0
    return look.sections.numbers[kept], look.sections.means[kept], look.sections.deviations[kept]


def _around(values):
    """The median of the values beside each one, [section]."""
    places = np.arange(len(values))
    return np.array([np.median(values[(np.abs(places - place) <= NEIGHBOURS) & (places != place)]) for place in places])


def _named(numbers):
    listed = ", ".join(str(number) for number in numbers[:LISTED])
    more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
    return f"section {listed} is" if len(numbers) == 1 else f"sections {listed}{more} are"


def _of_those(look):
    """Of how many that was seen, where not all were looked at."""
    seen, count = len(look.sections.numbers), look.sections.total
    return "" if seen == count else f" ({seen} of {count} were looked at)"


def _percent(share):
    return f"{100 * share:.3g}%"
