"""configs/quickstart.ipynb: valid, without outputs, and it runs from top to bottom."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="see tests/requirements.txt")
nbclient = pytest.importorskip("nbclient", reason="see tests/requirements.txt")

NOTEBOOKS = sorted(Path(__file__).parents[1].joinpath("configs").glob("*.ipynb"))
# What the cell of parameters says in the test: little training on small volumes.
QUICK = {"steps, adaptation_steps": "(20, 6)", "source_shape, target_shape": "('3,400,400', '2,400,400')"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_valid_and_nothing_that_was_computed_is_in_it(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 3
    assert [cell for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert {*notebook.metadata} <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert "image/png" not in path.read_text()
    assert notebook.cells[0].source.startswith("# ")
    assert max(len(line) for cell in code for line in cell.source.splitlines()) <= 130


def executed(path, parameters):
    """The notebook after it was run, with other values in its cell of parameters."""
    notebook = nbformat.read(path, as_version=4)
    cell, = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for name, value in parameters.items():
        cell.source, count = re.subn(rf"^{re.escape(name)} = [^#\n]*", f"{name} = {value}", cell.source, flags=re.MULTILINE)
        assert count == 1, name
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


@pytest.mark.slow
def test_the_quickstart_runs_from_drawing_to_counting(tmp_path):
    path, = (path for path in NOTEBOOKS if path.stem == "quickstart")
    before = {*path.parent.iterdir()}
    notebook = executed(path, {"folder": repr(str(tmp_path / "quickstart")), **QUICK})
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 3
    assert re.search(r"trained for 20 steps", printed)
    scores = [float(text) for text in re.findall(r"IoU (\d\.\d+)", printed)]
    assert len(scores) >= 2
    counts = dict(re.findall(r"^(truth|found): (\d+) mitochondria", printed, re.MULTILINE))
    assert {*counts} == {"truth", "found"}
    assert int(counts["truth"]) > 0
    assert {entry.name for entry in (tmp_path / "quickstart").iterdir()} >= {"source", "adapted", "before.zarr", "after.zarr"}
    assert {*path.parent.iterdir()} == before
