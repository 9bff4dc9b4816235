"""The choice of a weight without target labels."""

import dataclasses

import numpy as np
import pytest
from tiny import domain, experiment

from yseg.config import InputError
from yseg.studies.judge import VALIDATION, judge
from yseg.studies.weight_search import COLUMNS, CRITERION, in_order, sweep, with_weight
from yseg.volumes.arrays import create_array

SHAPE = (3, 64, 96)


def tiny(**fields):
    return experiment(**{"method": "coral"} | fields)


def test_the_weight_is_that_of_what_the_method_adds():
    for method in ("mmd", "coral", "dann"):
        assert with_weight(tiny(method=method), 7.0).adaptation.weight == 7.0
    adaptation = with_weight(tiny(method="ynet"), 7.0).adaptation
    assert adaptation.reconstruction_source == adaptation.reconstruction_target == 7.0
    assert adaptation.weight is None
    with pytest.raises(InputError, match="must be a method with a weight"):
        with_weight(tiny(method="ft"), 7.0)


def test_the_criterion_decides_between_those_that_do_well_on_the_source():
    rows = [{"weight": weight, VALIDATION: validation, CRITERION: criterion} for weight, validation, criterion in
            ((1.0, 0.70, -0.03), (10.0, 0.66, -0.02), (100.0, 0.64, -0.01), (1000.0, 0.30, 0.0))]
    ordered = in_order(rows)
    assert [row["weight"] for row in ordered] == [10.0, 1.0, 1000.0, 100.0]
    assert [row["good_on_source"] for row in ordered] == [True, True, False, False]


def test_a_validation_iou_that_is_undefined_is_not_good_and_comes_behind_those_that_are():
    def rows(*validations):
        return [{"weight": float(number), VALIDATION: validation, CRITERION: float(number)}
                for number, validation in enumerate(validations)]

    ordered = in_order(rows(0.70, 0.69, None, 0.3))
    assert [(row["weight"], row["good_on_source"]) for row in ordered] == [(1.0, True), (0.0, True), (3.0, False), (2.0, False)]
    assert [(row["weight"], row["good_on_source"]) for row in in_order(rows(None, None))] == [(1.0, False), (0.0, False)]
    assert [row["good_on_source"] for row in in_order(rows(None, 0.0))] == [True, False]  # 0 is an IoU, and the best there is


@pytest.mark.slow
def test_a_sweep_ranks_every_weight_the_same_whatever_the_target_labels_are(tmp_path):
    told = []
    rows = sweep(tiny(), [1.0, 1000.0], tmp_path / "first", tell=told.append, quiet=True)
    assert sorted(row["weight"] for row in rows) == [1.0, 1000.0]
    assert rows == in_order(rows[::-1])
    assert (tmp_path / "first" / "sweep.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    again = sweep(tiny(), [1.0, 1000.0], tmp_path / "first", tell=told.append, quiet=True)
    assert again == rows
    assert [line.rsplit(": ")[1] for line in told] == ["training"] * 2 + ["done before"] * 2

    path = str(tmp_path / "noise.zarr")
    with create_array(path, SHAPE, np.uint8, 10.0) as store:
        store.write(np.random.default_rng(0).integers(0, 2, SHAPE, np.uint8)).result()
    noisy = tiny(target=domain("target", test_fraction=0.3, labels=path))
    sweep(noisy, [1.0], tmp_path / "second", tell=told.append, quiet=True)
    assert judge(tmp_path / "second" / "runs" / "1") == judge(tmp_path / "first" / "runs" / "1")


def test_without_a_validation_box_it_is_refused(tmp_path):
    config = tiny(source=dataclasses.replace(tiny().source, validation_fraction=0.0))
    with pytest.raises(InputError, match=r"^source\.validation_fraction=0: must be above 0"):
        sweep(config, [1.0], tmp_path / "out")
    assert not (tmp_path / "out").exists()
