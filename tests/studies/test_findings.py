"""Each rule finds what it is for, and nothing else: records that are right but for one thing."""

import numpy as np
import pytest
from looks import BINARY, look, sections

from yseg.metrics.appearance import Fit
from yseg.studies.findings import findings_of
from yseg.studies.look import Peak, Sections, Value


def found(source=None, target=None):
    """The rules that found something, of two Looks with changed fields; and all texts."""
    findings = findings_of([look("source", **source or {}), look("target", **target or {})])
    return [(finding.rule, finding.domain) for finding in findings], " ".join(finding.text for finding in findings)


def test_of_volumes_that_are_right_nothing_is_found():
    assert found() == ([], "")


BRIGHT = (-0.2, -0.24, -0.3, -0.26)
DRIFTING = Sections(np.arange(20), 100 + 4.0 * np.arange(20), np.full(20, 30.0), 20)
MERGED = (BINARY[0], Value(1.0, 0.02, 1.0, 5.0), Value(2.0, 0.05, 0.9, 4.0))
OBJECTS = (BINARY[0], Value(1.0, 0.02, 1.0, 1.0), Value(2.0, 0.05, 0.9, 1.1))


@pytest.mark.parametrize(("source", "target", "rule", "domain", "words"), [
    ({}, {"polarity": BRIGHT}, "inverted", "both", "dark lines are 12% stronger than bright ones, in the target thin bright lines"
     " are 28%"),
    ({"polarity": BRIGHT}, {}, "inverted", "both", "give the new volume as source.image"),
    ({}, {"image": "/source.tif"}, "same_volume", "both", "/source.tif is the same file"),
    ({}, {"corner": look("source").corner}, "same_volume", "both", "the same voxels in another file"),
    ({"labels_path": "/source.tif"}, {}, "labels_are_image", "source", "give the label volume as source.labels"),
    ({"labels_size": 12.0}, {}, "object_size", "source", "sampling.working_pixel_size_nm=4 makes them 30"),
    ({"labels_size": 150.0}, {}, "object_size", "source", "sampling.working_pixel_size_nm=50 makes them 30"),
    ({}, {"pixel_size_nm": 15.0}, "too_fine", "target", "sampling.working_pixel_size_nm=15"),
    ({"labels_share": 0.0005}, {}, "share", "source", "0.05% of what is labelled is foreground"),
    ({"labels_share": 0.8}, {}, "share", "source", "Seen: 0 (93%), 1 (7%)"),
    ({"labels_rule": "==1,5"}, {}, "label_values", "source", "source.foreground='==1,5' names 5, which no section"),
    ({"labels_values": MERGED}, {}, "label_values", "source", "takes label values 1 (2%), 2 (5%) for one structure"),
    ({"labels_fit": Fit(1.2, 4.0, (50, 3))}, {}, "misfit", "source", "(1.2 deviations, chance reaches 4.5)"),
    ({"labels_fit": Fit(5.0, 20.0, (-10, 4))}, {}, "misfit", "source", "about -20 voxels in y and 8 in x (108 nm)"),
    ({"seen_spacing_nm": 36.0}, {}, "spacing", "source", "as if they were 36 nm apart, though source.section_nm is 15"),
    ({}, {"seen_spacing_nm": 6.0}, "spacing", "target", "is target.pixel_size_nm=5 right?"),
    ({}, {"sections": sections({4: 0.0}, {4: 0.0})}, "lost_sections", "target", "section 4 is of one grey level, as if lost;"
     " target.mask=nodata=0"),
    ({}, {"sections": sections({4: 0.0, 6: 255.0}, {4: 0.0, 6: 0.0}, total=900)}, "lost_sections", "target",
     "sections 4, 6 are of one grey level, as if lost (20 of 900 were looked at); a mask that is 0 there"),
    ({}, {"sections": sections({7: 130.0})}, "uneven_sections", "target",
     "section 7 is unlike the sections around (section 7: mean 130 beside"),
    ({}, {"sections": sections(None, {3: 12.0, 9: 60.0})}, "uneven_sections", "target", "sections 3, 9 are"),
    ({}, {"sections": DRIFTING}, "drift", "target", "along z, 2.0 of its deviations"),
    ({}, {"peaks": (Peak(255.0, 0.034, False),)}, "saturated", "target", "3.4% of the pixels have the highest grey level, 255"),
])
def test_a_rule_finds_what_it_is_for_and_no_other_does(source, target, rule, domain, words):
    rules, texts = found(source, target)
    assert rules == [(rule, domain)]
    assert words in texts


@pytest.mark.parametrize(("source", "target"), [
    ({"polarity": BRIGHT}, {"polarity": BRIGHT}),  # both alike
    ({}, {"polarity": (-0.02, -0.01, -0.03, -0.02)}),  # nothing to be seen
    ({}, {"polarity": (-0.2, 0.1, -0.3, 0.2)}),  # of two minds
    ({}, {"polarity": ()}),  # pixels that are too large
    ({}, {"shape": (20, 100, 101), "corner": look("source").corner}),
    ({"corner": np.zeros((3, 3))}, {"corner": np.zeros((3, 3))}),  # a border
    ({"labels_size": 18.0}, {}), ({"labels_size": 70.0}, {}), ({"labels_size": None, "labels_fit": None}, {}),
    ({}, {"pixel_size_nm": 12.0}),
    ({"labels_share": 0.004}, {}), ({"labels_share": 0.5}, {}),
    ({"labels_rule": "==1"}, {}), ({"labels_values": OBJECTS}, {}), ({"labels_values": (), "labels_distinct": 400}, {}),
    ({"labels_rule": "==2", "labels_values": MERGED}, {}), ({"labels_rule": "classes", "labels_values": MERGED}, {}),
    ({"labels_fit": None}, {}), ({"labels_fit": Fit(1.0, 4.0, (9, 9)), "labels_diameters": np.full(9, 30.0)}, {}),
    ({"labels_fit": Fit(17.0, 20.0, (0, 6))}, {}), ({"labels_fit": Fit(9.0, 16.0, (1, 2))}, {}),
    ({"seen_spacing_nm": 25.0}, {"seen_spacing_nm": None}), ({"section_nm": None, "seen_spacing_nm": 300.0}, {}),
    ({}, {"sections": sections({4: 112.0}, {5: 24.0, 6: 40.0})}),
    ({}, {"sections": sections({7: 160.0, 8: 30.0}), "normalization": "section"}),
    ({}, {"sections": DRIFTING, "normalization": "local"}),
    ({}, {"sections": sections({1: 150.0}, count=3)}),
])
def test_in_doubt_nothing_is_said(source, target):
    assert found(source, target) == ([], "")


def test_a_target_alone_is_judged_by_itself():
    assert findings_of([look("target")]) == []
    assert [finding.rule for finding in findings_of([look("target", peaks=(Peak(0.0, 0.1, True),))])] == ["saturated"]


def test_a_few_sections_are_named_and_the_others_counted():
    lost = {number: 0.0 for number in range(0, 16, 2)}
    assert "sections 0, 2, 4, 6, 8 and 3 more are" in found({}, {"sections": sections(lost, lost)})[1]
