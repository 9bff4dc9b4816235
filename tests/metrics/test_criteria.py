"""Criteria against plain loops, closed forms and their bounds."""

import doctest
import itertools
import math
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from yseg.metrics.criteria import (
    balanced_information,
    batch_nuclear_norm,
    entropy_score,
    information_maximisation,
    rank_average,
    soft_neighbourhood_density,
)


def balanced(probabilities):
    return balanced_information(probabilities, 0.1)


CRITERIA = (entropy_score, information_maximisation, balanced, soft_neighbourhood_density, batch_nuclear_norm)
few = settings(max_examples=40, deadline=None)
weight = st.sampled_from([0.0, 1.0]) | st.floats(1e-9, 1)


@st.composite
def distributions(draw, max_classes=4):
    """[n, class] rows that sum to 1, often with zeros or one-hot."""
    weights = draw(hnp.arrays(np.float64, st.tuples(st.integers(2, 7), st.integers(2, max_classes)), elements=weight))
    weights[weights.sum(axis=1) == 0] = 1
    return weights / weights.sum(axis=1, keepdims=True)


@st.composite
def runs(draw, columns=2):
    """Columns of equal length with many ties."""
    count = draw(st.integers(1, 7))
    value = st.integers(-2, 2).map(float) | st.floats(-1e3, 1e3)
    return [np.array(draw(st.lists(value, min_size=count, max_size=count))) for _ in range(columns)]


def one_hot(*counts):
    """Predictions of counts[c] voxels as class c with certainty."""
    return np.repeat(np.eye(len(counts)), counts, axis=0)


def entropy_loop(row):
    return -sum(p * math.log(p) for p in row if p > 0)


def mean_row(probabilities):
    return [sum(column) / len(column) for column in zip(*probabilities, strict=True)]


def density_loop(probabilities, temperature):
    entropies = []
    for i, row in enumerate(probabilities):
        cosines = [sum(p * q for p, q in zip(row, other, strict=True)) / math.hypot(*row) / math.hypot(*other)
                   for j, other in enumerate(probabilities) if j != i]
        weights = [math.exp(cosine / temperature) for cosine in cosines]
        entropies.append(entropy_loop([w / sum(weights) for w in weights]))
    return sum(entropies) / len(entropies)


def ranks_loop(column):
    return [sum(other < value for other in column) + (sum(other == value for other in column) + 1) / 2 for value in column]


@few
@given(distributions())
def test_entropy_and_information_are_those_of_a_plain_loop(probabilities):
    rows = probabilities.tolist()
    mean_entropy = sum(map(entropy_loop, rows)) / len(rows)
    assert entropy_score(probabilities) == pytest.approx(-mean_entropy, abs=1e-12)
    assert information_maximisation(probabilities) == pytest.approx(entropy_loop(mean_row(rows)) - mean_entropy, abs=1e-12)


@few
@given(distributions(max_classes=2), st.floats(0.01, 0.99))
def test_balanced_information_is_that_of_a_plain_loop(probabilities, share):
    rows = probabilities.tolist()
    divergence = sum(p * math.log(p / q) for p, q in zip(mean_row(rows), [1 - share, share], strict=True) if p > 0)
    expected = -divergence - sum(map(entropy_loop, rows)) / len(rows)
    assert balanced_information(probabilities, share) == pytest.approx(expected, abs=1e-12)
    assert balanced_information(probabilities, share) <= 1e-12


@few
@given(distributions(), st.sampled_from([0.05, 0.5, 10.0]))
def test_soft_neighbourhood_density_is_that_of_a_plain_loop(probabilities, temperature):
    expected = density_loop(probabilities.tolist(), temperature)
    assert soft_neighbourhood_density(probabilities, temperature) == pytest.approx(expected, abs=1e-9)


@few
@given(distributions(max_classes=2))
def test_nuclear_norm_of_two_classes_is_that_of_the_closed_form(probabilities):
    """(s_1 + s_2)^2 = |A|_F^2 + 2 sqrt(det A^T A), and det A^T A is the sum of the squared 2 x 2 minors (Cauchy and Binet)."""
    pairs = itertools.combinations(probabilities.tolist(), 2)
    determinant = math.fsum((a * d - b * c) ** 2 for (a, b), (c, d) in pairs)
    expected = math.sqrt((probabilities**2).sum() + 2 * math.sqrt(determinant)) / len(probabilities)
    assert batch_nuclear_norm(probabilities) == pytest.approx(expected, rel=1e-9)


@few
@given(distributions())
def test_criteria_keep_their_bounds(probabilities):
    n, classes = probabilities.shape
    rounding = 1e-12
    assert -math.log(classes) - rounding <= entropy_score(probabilities) <= 0
    assert -rounding <= information_maximisation(probabilities) <= math.log(classes) + rounding
    assert -rounding <= soft_neighbourhood_density(probabilities) <= math.log(n - 1) + rounding
    nuclear = batch_nuclear_norm(probabilities)
    assert 1 / math.sqrt(n * classes) - rounding <= nuclear <= math.sqrt(min(n, classes) / n) + rounding
    frobenius = math.sqrt((probabilities**2).sum())
    assert frobenius - rounding <= nuclear * n <= math.sqrt(min(n, classes)) * frobenius + 10 * rounding


@few
@given(distributions(max_classes=2), st.randoms(use_true_random=False))
def test_the_order_of_the_voxels_does_not_matter(probabilities, random):
    order = list(range(len(probabilities)))
    random.shuffle(order)
    for criterion in CRITERIA:
        assert criterion(probabilities[order]) == pytest.approx(criterion(probabilities), abs=1e-12)


@few
@given(distributions(), st.randoms(use_true_random=False))
def test_the_order_of_the_classes_does_not_matter(probabilities, random):
    order = list(range(probabilities.shape[1]))
    random.shuffle(order)
    for criterion in (entropy_score, information_maximisation, soft_neighbourhood_density, batch_nuclear_norm):
        assert criterion(probabilities[:, order]) == pytest.approx(criterion(probabilities), abs=1e-12)


@few
@given(distributions(max_classes=2))
def test_a_uniform_prior_gives_the_mutual_information_less_a_constant(probabilities):
    expected = information_maximisation(probabilities) - math.log(2)
    assert balanced_information(probabilities, 0.5) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_uniform_predictions_have_the_least_confidence_and_information(classes):
    probabilities = np.full((8, classes), 1 / classes)
    assert entropy_score(probabilities) == pytest.approx(-math.log(classes))
    assert information_maximisation(probabilities) == pytest.approx(0, abs=1e-12)
    assert soft_neighbourhood_density(probabilities) == pytest.approx(math.log(7))
    assert batch_nuclear_norm(probabilities) == pytest.approx(1 / math.sqrt(8 * classes))


def test_one_hot_predictions_have_the_entropy_of_their_shares():
    probabilities = one_hot(9, 3, 4)
    assert entropy_score(probabilities) == 0
    assert information_maximisation(probabilities) == pytest.approx(entropy_loop([9 / 16, 3 / 16, 4 / 16]))
    assert batch_nuclear_norm(probabilities) == pytest.approx((3 + math.sqrt(3) + 2) / 16)


@pytest.mark.parametrize(("first", "second", "temperature"), [(5, 2, 0.05), (5, 2, 1.0), (1, 6, 0.5)])
def test_density_of_two_clusters_is_that_of_the_closed_form(first, second, temperature):
    def entropy(own, others):
        """Of `own` neighbours of weight exp(1 / t) and `others` of weight 1."""
        total = own * math.exp(1 / temperature) + others
        return math.log(total) - own * math.exp(1 / temperature) / temperature / total

    expected = (first * entropy(first - 1, second) + second * entropy(second - 1, first)) / (first + second)
    value = soft_neighbourhood_density(one_hot(first, second), temperature)
    assert value == pytest.approx(expected, abs=1e-9)


def test_density_at_a_low_temperature_counts_the_neighbours_of_the_own_cluster():
    expected = (5 * math.log(4) + 3 * math.log(2)) / 8
    assert soft_neighbourhood_density(one_hot(5, 3), temperature=1e-3) == pytest.approx(expected)


def test_density_draws_rows_by_the_seed():
    probabilities = np.random.default_rng(0).dirichlet([1, 1], size=300)
    values = [soft_neighbourhood_density(probabilities, pixels=40, seed=seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert max(values) <= math.log(39)
    everything = [soft_neighbourhood_density(probabilities, pixels=pixels, seed=seed) for pixels, seed in ((300, 0), (2000, 1))]
    assert everything[0] == everything[1]


def test_density_of_a_draw_is_that_of_different_rows():
    """49 different rows of 50 leave one out, so the value is among the 50 that a loop over the row left out gives."""
    probabilities = np.random.default_rng(0).dirichlet([1, 1], size=50)
    choices = [density_loop(np.delete(probabilities, row, axis=0).tolist(), 0.05) for row in range(50)]
    value = soft_neighbourhood_density(probabilities, pixels=49, seed=3)
    assert min(abs(value - choice) for choice in choices) < 1e-12


def test_a_known_share_prefers_the_right_balance_and_a_uniform_one_the_wrong():
    right, half = one_hot(9, 1), one_hot(5, 5)
    assert balanced(right) > balanced(half)
    assert information_maximisation(right) < information_maximisation(half)
    assert balanced(right) == pytest.approx(0, abs=1e-12)
    assert balanced(one_hot(10, 0)) == pytest.approx(math.log(0.9))
    assert balanced(one_hot(0, 10)) == pytest.approx(math.log(0.1))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_extreme_predictions_give_finite_values_without_a_warning(criterion):
    tiny = np.array([[1.0, 5e-324], [1 - 1e-16, 1e-16], [1e-300, 1.0], [0.0, 1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert criterion(tiny) == pytest.approx(criterion(one_hot(2, 2)), abs=1e-12)
        assert math.isfinite(criterion(one_hot(3, 0)))


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_low_precision_predictions_are_accepted_and_give_a_python_float(criterion, dtype):
    probabilities = np.random.default_rng(0).dirichlet([0.5, 0.5], size=50)
    value = criterion(probabilities.astype(dtype))
    assert type(value) is float
    assert value == pytest.approx(criterion(probabilities), rel=5e-3)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_sum_within_the_tolerance_is_made_1(criterion):
    probabilities = np.random.default_rng(0).dirichlet([0.5, 0.5], size=20)
    assert criterion(probabilities * 1.0009) == pytest.approx(criterion(probabilities), abs=1e-12)


@pytest.mark.parametrize("criterion", [entropy_score, information_maximisation, balanced, batch_nuclear_norm])
def test_a_single_prediction_is_enough(criterion):
    assert math.isfinite(criterion([[0.25, 0.75]]))


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(("probabilities", "message"), [
    ([0.5, 0.5], r"shape \(2,\)"),
    (np.full((2, 2, 2), 0.5), r"shape \(2, 2, 2\)"),
    (np.zeros((0, 2)), r"shape \(0, 2\)"),
    (np.ones((3, 1)), r"shape \(3, 1\)"),
    ([[0.5, 0.5], [0.5, 0.502]], r"row 1 sums to 1\.002"),
    ([[0.0, 0.0], [0.5, 0.5]], r"row 0 sums to 0"),
    ([[-0.5, 1.5], [0.5, 0.5]], r"from -0\.5 to 1\.5"),
    ([[np.inf, 0.5], [0.5, 0.5]], r"from 0\.5 to inf"),
])
def test_what_is_no_distribution_is_refused_in_one_line(criterion, probabilities, message):
    with pytest.raises(ValueError, match=message) as error:
        criterion(probabilities)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_nan_is_refused(criterion):
    with pytest.raises(ValueError, match=r"^probabilities: must not be NaN"):
        criterion([[0.5, 0.5], [np.nan, 0.5]])


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, np.nan])
def test_a_share_without_a_class_is_refused(share):
    with pytest.raises(ValueError, match=r"^foreground_share="):
        balanced_information([[0.5, 0.5]], share)


def test_balanced_information_needs_two_classes():
    with pytest.raises(ValueError, match=r"^probabilities of 3 classes"):
        balanced([[0.2, 0.3, 0.5]])


@pytest.mark.parametrize(("rows", "wrong"), [(1, {}), (3, {"temperature": 0}), (3, {"temperature": np.nan}), (3, {"pixels": 1})])
def test_density_refuses_a_single_row_and_wrong_options(rows, wrong):
    with pytest.raises(ValueError, match=f"^probabilities of {rows} rows"):
        soft_neighbourhood_density(np.full((rows, 2), 0.5), **wrong)


@few
@given(runs(columns=3))
def test_rank_average_is_that_of_a_plain_loop(columns):
    expected = np.mean([ranks_loop(column) for column in columns], axis=0)
    np.testing.assert_allclose(rank_average(*columns), expected, rtol=1e-15)
    np.testing.assert_array_equal(rank_average(columns[0]), ranks_loop(columns[0]))


@few
@given(runs())
def test_rank_average_ignores_the_scale_of_a_criterion(columns):
    np.testing.assert_array_equal(rank_average(columns[0] * 4, columns[1]), rank_average(*columns))


@pytest.mark.parametrize(("first", "second", "message"), [
    ([1, 2], [1, 2, 3], r"\(2,\), \(3,\)"),
    ([], [], r"\(0,\)"),
    ([[1, 2]], [[1, 2]], r"\(1, 2\)"),
    ([1, 2], [1, np.nan], "^columns: run 1 of column 1 is nan"),
    ([None, 2], [1, 2], "^columns: run 0 of column 0 is nan"),
    ([1, np.inf], [1, 2], "^columns: run 1 of column 0 is inf"),
])
def test_runs_without_a_value_or_of_another_number_are_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        rank_average(first, second)


def test_no_column_is_refused():
    with pytest.raises(ValueError, match="one or more"):
        rank_average()


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(sys.modules["yseg.metrics.criteria"]) == (0, 6)
