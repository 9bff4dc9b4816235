"""Intervals against loops over resampled sections, and against populations whose IoU is known."""

import doctest
import statistics
import sys

import numpy as np
import pytest

from yseg.metrics.intervals import bootstrap_iou, mean_and_spread, paired_difference


def population(generator, iou, sections, seeds=None, spread=0.0):
    """Counts whose expected IoU is `iou`: sections of random size and difficulty, seeds of random quality (if any)."""
    size = generator.integers(50, 400, sections)  # voxels of the union
    quality = generator.normal(0, spread, (seeds or 1, 1))
    share = np.clip(generator.beta(10 * iou, 10 * (1 - iou), sections) + quality, 0, 1)
    tp = generator.binomial(size, share)
    fp = generator.binomial(size - tp, 0.3)
    counts = np.stack([tp, fp, size - tp - fp], axis=-1)
    return counts if seeds else counts[0]


def looped(counts, samples, seed):
    """IoU of every resample, seed by seed and section by section, from lists of what was drawn."""
    seeds, sections, _ = counts.shape
    generator = np.random.default_rng(seed)
    section_draws = generator.multinomial(sections, [1 / sections] * sections, size=samples)
    seed_draws = generator.multinomial(seeds, [1 / seeds] * seeds, size=samples)
    ious = []
    for section_draw, seed_draw in zip(section_draws, seed_draws, strict=True):
        drawn_sections = [i for i, times in enumerate(section_draw) for _ in range(times)]
        drawn_seeds = [i for i, times in enumerate(seed_draw) for _ in range(times)]
        assert (len(drawn_sections), len(drawn_seeds)) == (sections, seeds)
        each = []
        for s in drawn_seeds:
            tp = fp = fn = 0
            for i in drawn_sections:
                tp, fp, fn = tp + int(counts[s, i, 0]), fp + int(counts[s, i, 1]), fn + int(counts[s, i, 2])
            each.append(tp / (tp + fp + fn))
        ious.append(statistics.fmean(each))
    return np.array(ious)


@pytest.mark.parametrize("seeds", [None, 1, 3])
def test_intervals_are_those_of_a_loop_over_resampled_sections(seeds):
    counts = population(np.random.default_rng(0), 0.7, 12, seeds, spread=0.05)
    expected = looped(counts.reshape(-1, 12, 3), 200, seed=5)
    assert bootstrap_iou(counts, samples=200, level=0.9, seed=5) == pytest.approx(np.quantile(expected, [0.05, 0.95]), rel=1e-14)


@pytest.mark.parametrize("seeds", [None, 3])
def test_differences_are_those_of_a_loop_with_the_same_sections_for_both(seeds):
    generator = np.random.default_rng(1)
    a, b = (population(generator, iou, 12, seeds, spread=0.05) for iou in (0.7, 0.6))
    stacked = [x.reshape(-1, 12, 3) for x in (a, b)]
    expected = looped(stacked[0], 200, seed=5) - looped(stacked[1], 200, seed=5)
    whole = [np.mean(x[..., 0].sum(axis=1) / x.sum(axis=(1, 2))) for x in stacked]
    difference, low, high = paired_difference(a, b, samples=200, level=0.9, seed=5)
    assert (low, high) == pytest.approx(np.quantile(expected, [0.05, 0.95]), rel=1e-12)
    assert difference == pytest.approx(whole[0] - whole[1], rel=1e-12)


def test_intervals_cover_the_iou_of_the_population_about_as_often_as_they_say():
    generator = np.random.default_rng(2)
    intervals = np.array([bootstrap_iou(population(generator, 0.7, 60), samples=300, level=0.9, seed=i) for i in range(300)])
    low, high = intervals.T
    assert 0.84 <= np.mean((low <= 0.7) & (high >= 0.7)) <= 0.95  # 0.9, with a standard error of 0.017
    assert np.mean(high < 0.7) < 0.1
    assert np.mean(low > 0.7) < 0.1


def test_intervals_of_many_seeds_cover_the_iou_of_the_population():
    generator = np.random.default_rng(3)
    covered = covered_by_one = 0
    for i in range(200):
        counts = population(generator, 0.6, 40, seeds=10, spread=0.05)
        low, high = bootstrap_iou(counts, samples=300, level=0.9, seed=i)
        covered += low <= 0.6 <= high
        low, high = bootstrap_iou(counts.sum(axis=0), samples=300, level=0.9, seed=i)
        covered_by_one += low <= 0.6 <= high
    assert 0.82 <= covered / 200 <= 0.96
    assert covered_by_one < covered  # sections alone do not show the spread of the seeds


def test_differences_cover_that_of_the_populations():
    generator = np.random.default_rng(4)
    covered = 0
    for i in range(200):
        a, b = population(generator, 0.7, 60), population(generator, 0.6, 60)
        _, low, high = paired_difference(a, b, samples=300, level=0.9, seed=i)
        covered += low <= 0.1 <= high
    assert 0.82 <= covered / 200 <= 0.96


def test_pairing_narrows_the_interval_where_the_same_sections_are_hard():
    a = population(np.random.default_rng(5), 0.6, 40)
    b = a.copy()
    moved = a[:, 0] // 20  # a twentieth of the true positives of every section is missed
    b[:, 0] -= moved
    b[:, 2] += moved
    difference, low, high = paired_difference(a, b)
    assert 0 < low <= difference <= high
    alone = bootstrap_iou(a)
    assert high - low < 0.2 * (alone[1] - alone[0])


def test_the_iou_is_the_ratio_of_sums():
    counts = np.array([[1, 0, 0], [0, 99, 0]])  # mean of the ratios: 0.5
    difference, _, _ = paired_difference(counts, np.array([[0, 1, 0], [0, 1, 0]]))
    assert difference == 0.01


@pytest.mark.parametrize("seeds", [None, 4])
def test_identical_methods_do_not_differ(seeds):
    counts = population(np.random.default_rng(6), 0.7, 30, seeds, spread=0.1)
    assert paired_difference(counts, counts.copy()) == (0.0, 0.0, 0.0)


def test_swapped_methods_have_the_opposite_difference():
    generator = np.random.default_rng(7)
    a, b = population(generator, 0.7, 20), population(generator, 0.6, 20)
    difference, low, high = paired_difference(a, b)
    assert paired_difference(b, a) == pytest.approx((-difference, -high, -low), rel=1e-12)


def test_intervals_are_determined_by_the_seed():
    generator = np.random.default_rng(8)
    a, b = population(generator, 0.7, 20), population(generator, 0.6, 20)
    assert bootstrap_iou(a, seed=1) == bootstrap_iou(a, seed=1) != bootstrap_iou(a, seed=2)
    assert paired_difference(a, b, seed=1) == paired_difference(a, b, seed=1) != paired_difference(a, b, seed=2)


def test_higher_levels_give_wider_intervals():
    counts = population(np.random.default_rng(9), 0.7, 20)
    (low, high), (lower, higher) = (bootstrap_iou(counts, level=level) for level in (0.5, 0.99))
    assert lower < low < high < higher


def test_a_single_section_gives_a_degenerate_interval():
    assert bootstrap_iou(np.array([[2, 1, 1]])) == (0.5, 0.5)
    assert paired_difference(np.array([[2, 1, 1]]), np.array([[1, 2, 1]])) == (0.25, 0.25, 0.25)


def test_seeds_alone_are_resampled_too():
    low, high = bootstrap_iou(np.array([[[1, 1, 0]], [[3, 1, 0]]]))  # IoU 0.5 and 0.75
    assert (low, high) == (0.5, 0.75)


def test_undefined_scores_are_none():
    nothing, something = np.zeros((3, 3), int), np.ones((3, 3), int)
    assert bootstrap_iou(nothing) == (None, None)
    assert paired_difference(nothing, something) == paired_difference(something, nothing) == (None, None, None)


def test_resamples_without_an_iou_are_left_out():
    counts = np.array([[1, 1, 0], [0, 0, 0]])  # a quarter of the resamples have the empty section only
    assert bootstrap_iou(counts) == (0.5, 0.5)
    assert paired_difference(counts, counts[::-1]) == (0.0, 0.0, 0.0)
    assert bootstrap_iou(np.stack([counts, np.zeros_like(counts)])) == (0.5, 0.5)  # a seed without an IoU does not count


def test_counts_of_many_voxels_do_not_overflow():
    counts = np.full((4, 3), [2**31 - 1, 2**31 - 1, 0], np.uint32)
    assert bootstrap_iou(counts) == (0.5, 0.5)


@pytest.mark.parametrize(("counts", "message"), [
    (np.ones((4, 2), int), "shape"), (np.ones(3, int), "shape"), (np.ones((0, 3), int), "shape"),
    (np.ones((2, 0, 3), int), "shape"), (np.ones((4, 3)), "integers"), (np.full((4, 3), -1), "integers"),
])
def test_counts_that_are_none_are_refused(counts, message):
    with pytest.raises(ValueError, match=f"^counts.*{message}"):
        bootstrap_iou(counts)
    with pytest.raises(ValueError, match=f"^counts_a.*{message}"):
        paired_difference(counts, np.ones((4, 3), int))
    with pytest.raises(ValueError, match=f"^counts_b.*{message}"):
        paired_difference(np.ones((4, 3), int), counts)


@pytest.mark.parametrize("options", [{"samples": 0}, {"level": 0}, {"level": 1}, {"level": 95}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}="):
        bootstrap_iou(np.ones((4, 3), int), **options)


def test_methods_on_different_sections_are_refused():
    with pytest.raises(ValueError, match="same sections"):
        paired_difference(np.ones((4, 3), int), np.ones((5, 3), int))


def test_mean_and_spread_are_those_of_the_numbers():
    values = np.random.default_rng(10).random(7)
    assert mean_and_spread([None, *values]) == pytest.approx((values.mean(), values.std(ddof=1)), rel=1e-13)
    assert mean_and_spread([0.25, 0.25]) == (0.25, 0.0)
    assert mean_and_spread([None, 0.25]) == (0.25, None)
    assert mean_and_spread([None]) == mean_and_spread([]) == (None, None)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(sys.modules["yseg.metrics.intervals"]) == (0, 3)
