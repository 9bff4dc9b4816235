"""Trainings on a volume in every format that is written."""

from pathlib import Path

import pytest

from tests.formats import source_of, table

README = Path(__file__).parent.parent / "configs" / "README.md"


@pytest.mark.slow
def test_the_published_volume_in_every_format_trains_to_the_bits_that_readme_says(real_data, tmp_path):
    found = table(source_of(real_data), tmp_path)
    assert found.count("| 0 of ") == found.count("\n") - 1
    assert found in README.read_text(encoding="utf-8")
