"""How well runs are ranked without target labels, on hand-made numbers."""

import pytest

from yseg.config import InputError
from yseg.studies.judge import CRITERIA, VALIDATION, ranking


def run(seed, iou, validation, criterion):
    return {"seed": seed, "iou": iou, VALIDATION: validation, **dict.fromkeys(CRITERIA, criterion)}


def test_a_criterion_loses_what_its_choice_has_less_than_the_best_run_of_the_seed():
    rows = [run(0, 0.5, 0.9, 1.0), run(0, 0.7, 0.8, 3.0), run(0, 0.6, 0.7, 2.0),  # the criterion is right
            run(1, 0.2, 0.9, 5.0), run(1, 0.4, 0.7, 4.0), run(1, 0.3, 0.8, 3.0)]  # and here the worst is its first
    lines = {line["criterion"]: line for line in ranking(rows)}
    entropy = lines["entropy"]
    assert entropy["iou"] == pytest.approx((0.7 + 0.2) / 2)
    assert entropy["lost"] == pytest.approx((0.0 + 0.2) / 2)
    assert entropy["correlation"] == pytest.approx((1.0 - 0.5) / 2)
    assert lines["source validation IoU"]["lost"] == pytest.approx((0.2 + 0.2) / 2)
    assert lines["source validation IoU"]["correlation"] == pytest.approx((-0.5 - 1.0) / 2)
    assert lines["any run"]["iou"] == pytest.approx((0.6 + 0.3) / 2)
    assert lines["test labels"]["lost"] == 0
    # Mean ranks of validation IoU and criterion: 2, 2.5, 1.5 of seed 0 and 3, 1.5, 1.5 of seed 1.
    assert lines["entropy, with source validation IoU"]["iou"] == pytest.approx((0.7 + 0.2) / 2)


def test_a_criterion_that_is_the_same_for_all_runs_has_no_correlation():
    lines = ranking([run(0, 0.5, 0.9, 1.0), run(0, 0.7, 0.8, 1.0)])
    assert lines[1]["correlation"] == 0


@pytest.mark.parametrize("unknown", [run(0, None, 0.99, 9.0), run(0, 0.99, None, 9.0), run(0, None, None, 9.0)])
def test_a_run_without_an_iou_or_a_validation_iou_is_as_if_it_were_not_there(unknown):
    rows = [run(0, 0.5, 0.9, 1.0), run(0, 0.7, 0.8, 3.0), run(1, 0.2, 0.9, 5.0), run(1, 0.4, 0.7, 4.0)]
    assert ranking([unknown, *rows]) == ranking([*rows[:1], unknown, *rows[1:]]) == ranking(rows)


def test_a_seed_of_which_one_run_is_left_is_as_if_it_were_not_there():
    rows = [run(0, 0.5, 0.9, 1.0), run(0, 0.7, 0.8, 3.0)]
    assert ranking([*rows, run(1, 0.9, 0.9, 1.0), run(1, 0.1, None, 2.0), run(2, 0.9, 0.9, 1.0)]) == ranking(rows)


@pytest.mark.parametrize("rows", [
    [run(0, None, 0.9, 1.0), run(0, None, 0.8, 3.0)],
    [run(0, 0.5, None, 1.0), run(0, 0.7, None, 3.0)],
    [run(0, 0.5, 0.9, 1.0), run(0, None, 0.8, 3.0), run(1, 0.7, 0.8, 3.0)],
    [],
])
def test_where_no_two_runs_of_a_seed_are_left_that_is_said_in_one_line(rows):
    with pytest.raises(InputError, match="no two runs of one seed have a defined IoU") as raised:
        ranking(rows)
    assert "\n" not in str(raised.value)
