"""Trainings on a volume in every format that is written."""

import numpy as np
import pytest

from tests.formats import converted, source_of, trained
from yseg.volumes.header import FORMATS


@pytest.mark.slow
def test_the_published_volume_in_every_format_trains_to_the_same_bits(real_data, tmp_path):
    source = source_of(real_data)
    expected = trained(source, tmp_path / "run")
    for form in FORMATS:
        (tmp_path / form).mkdir()
        for one, other in zip(expected, trained(converted(source, tmp_path / form, form), tmp_path / form / "run"), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=form)
