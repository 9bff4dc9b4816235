"""The table of objects against balls, boxes and rods whose volume, surface and elongation are known."""

import math

import numpy as np
import pytest
from instanced import balls, instances

from yseg.metrics.object_table import COLUMNS, summary, table

SIZE = (20.0, 10.0, 10.0)


def rows_of(mask, block=(8, 16, 16), **options):
    _, merged = instances(mask, block, SIZE, separate=False, **options)
    return table(merged.sums, SIZE[1], SIZE[0]), merged.sums


@pytest.mark.parametrize("radius", [100, 180])
def test_a_ball_has_its_volume_surface_and_no_elongation(radius):
    (row,), _ = rows_of(balls((24, 48, 48), SIZE, (230, 240, 230, radius)))
    assert row["volume_um3"] == pytest.approx(4 / 3 * math.pi * radius**3 * 1e-9, rel=0.02)
    assert row["surface_um2"] == pytest.approx(4 * math.pi * radius**2 * 1e-6, rel=0.06)
    assert row["elongation"] == pytest.approx(1, abs=0.03)
    assert [row[f"{axis}_nm"] for axis in "zyx"] == pytest.approx([230, 240, 230], abs=10)


def test_a_rod_is_as_elongated_as_it_is_long():
    mask = np.zeros((10, 20, 100), bool)
    mask[3:7, 6:14, 10:90] = True  # 80 x 80 x 800 nm
    (row,), _ = rows_of(mask)
    assert row["elongation"] == pytest.approx(10)
    assert row["volume_um3"] == pytest.approx(0.08 * 0.08 * 0.8)
    assert row["surface_um2"] == pytest.approx(2 / 3 * (4 * 0.08 * 0.8 + 2 * 0.08 * 0.08))
    assert {name: row[name] for name in COLUMNS[3:10]} == {"sections": 4, "z0": 3, "z1": 7, "y0": 6, "y1": 14, "x0": 10, "x1": 90}


def test_what_blocks_count_is_what_the_whole_has():
    mask = np.random.default_rng(0).random((8, 20, 24)) < 0.35
    probability = np.random.default_rng(1).random(mask.shape).astype(np.float32)
    whole, _ = rows_of(mask, mask.shape, probability=probability)
    blocks, _ = rows_of(mask, (3, 7, 5), probability=probability)
    assert len(whole) > 100
    for one, other in zip(whole, blocks, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_places_are_those_of_the_image_and_of_its_own_place():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 2, 0] = True
    _, merged = instances(mask, mask.shape, SIZE, separate=False)
    (row,) = table(merged.sums, SIZE[1], SIZE[0], first=(5, 6, 7), start=(15, 6, 7))
    assert [row[name] for name in ("z0", "z1", "y0", "y1", "x0", "x1")] == [6, 7, 8, 9, 7, 8]
    assert [row[name] for name in ("z_nm", "y_nm", "x_nm")] == [16 * 20, 8 * 10, 7 * 10]


def test_without_a_section_distance_there_are_voxels_and_no_lengths():
    _, sums = rows_of(balls((24, 48, 48), SIZE, (230, 240, 230, 100)))
    (row,) = table(sums, 10.0, None)
    assert {name for name, value in row.items() if value is None} == {"volume_um3", "z_nm", "surface_um2", "elongation"}
    found = summary(sums, 10.0, None, looked_at=10**5)
    assert found == {"count": 1, "density_per_um3": None, "share": pytest.approx(row["voxels"] / 10**5, rel=1e-5),
                     "median_um3": None, "mean_um3": None, "total_um3": None}


def test_the_summary_is_of_the_tissue_that_was_looked_at():
    mask = np.zeros((4, 10, 10), bool)
    mask[:2, :2, :2] = mask[3, 5:, 5:] = True
    _, sums = rows_of(mask)
    voxel = 2e-6
    assert summary(sums, 10.0, 20.0, looked_at=200) == pytest.approx(
        {"count": 2, "density_per_um3": 2 / (200 * voxel), "share": 33 / 200, "median_um3": 16.5 * voxel,
         "mean_um3": 16.5 * voxel, "total_um3": 33 * voxel})
    nothing, none = rows_of(np.zeros((2, 2, 2), bool))
    assert nothing == []
    assert summary(none, 10.0, 20.0, looked_at=0)["density_per_um3"] is None
