"""A package of bioimage.io: sound, with yseg's own probabilities, and written whole or not at all.

test_bioimage_core.py has the own program of bioimage.io apply it.
"""

import dataclasses
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny import experiment

import yseg
from launch import export as launcher
from launch import program
from yseg.config import LOCAL, SECTION, InputError, Model, Sampling
from yseg.trained.bioimage import FILES, PAPER, PYTORCH_FILES, sizes
from yseg.trained.example import COVER_SIDE, EPSILON
from yseg.trained.pytorch_weights import import_torch
from yseg.volumes.catalog import DATASETS
from yseg.volumes.phantom import phantom

onnxruntime = pytest.importorskip("onnxruntime", reason="see tests/requirements.txt")
spec = pytest.importorskip("bioimageio.spec", reason="see tests/requirements.txt")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of a run; its network sees three sections."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    yseg.train(experiment(name="tiny: a/b", model=Model(levels=1, features=4, sections=3)), workdir, quiet=True)
    return workdir


@pytest.fixture(scope="module")
def package(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("packages") / "package"
    assert yseg.export(run, output, format="bioimageio", threshold=0.55) == str(output)
    return output


def rdf_of(package):
    return yaml.safe_load((package / "rdf.yaml").read_text().removeprefix("%YAML 1.2\n"))


def changed(network, **groups):
    """A network with other knobs in groups of its config."""
    config = dataclasses.replace(network.config, **{
        name: dataclasses.replace(getattr(network.config, name), **fields) for name, fields in groups.items()})
    return dataclasses.replace(network, config=config)


def applied(package, image):
    """What the package's network says of raw grey levels [channel, y, x], normalised as its rdf.yaml asks for."""
    step, = (step for step in rdf_of(package)["inputs"][0]["preprocessing"] if step["id"] == "zero_mean_unit_variance")
    axes = tuple(["batch", "channel", "y", "x"].index(axis) for axis in step["kwargs"]["axes"])
    values = image[None].astype(np.float64)
    values = (values - values.mean(axes, keepdims=True)) / (values.std(axes, keepdims=True) + EPSILON)
    session = onnxruntime.InferenceSession(package / "weights.onnx")
    return session.run(None, {"raw": values.astype(np.float32)})[0][0]


def test_the_specification_finds_nothing_wrong(package):
    model = spec.load_model_description(package / "rdf.yaml")
    assert model.validation_summary.status == "valid-format"
    assert {path.name for path in package.iterdir()} == {*FILES, *(PYTORCH_FILES if import_torch() else ())}
    assert model.format_version.startswith("0.5.")
    assert model.name == "yseg tiny a b"


def test_axes_say_pixel_size_steps_halo_and_channels(package, run):
    config = yseg.load_run(run).config
    smallest, step, halo = sizes(config.model)
    (_, channel, *space), (_, classes, *found) = (rdf_of(package)[name][0]["axes"] for name in ("inputs", "outputs"))
    assert channel["channel_names"] == ["section-1", "section", "section+1"]
    assert classes["channel_names"] == ["background", "foreground"]
    for axis, result in zip(space, found, strict=True):
        assert (axis["unit"], axis["scale"]) == ("nanometer", config.sampling.working_pixel_size_nm)
        assert axis["size"] == {"min": smallest, "step": step}
        assert (result["halo"], result["scale"]) == (halo, axis["scale"])
    assert step == 2
    assert smallest % step == halo % step == 0 < smallest - 2 * halo


@pytest.mark.parametrize("normalization", ["volume", SECTION])
def test_the_test_tensors_are_a_tile_of_the_target_and_what_yseg_says_of_it(run, tmp_path, normalization):
    network = changed(yseg.load_run(run), sampling={"normalization": normalization}, inference={"depth_nm": 0.0})
    package = tmp_path / "package"
    yseg.export(network, package, format="bioimageio")
    image, probabilities = (np.load(package / name) for name in ("test_input.npy", "test_output.npy"))
    volume = yseg.open_volume(network.config.target.image).read().result()
    side = image.shape[-1]
    assert image.shape == (1, 3, side, side)
    rows = volume[:, :, (96 - side) // 2:][..., :side] if side < 96 else volume
    np.testing.assert_array_equal(image[0, :, :rows.shape[1], :rows.shape[2]], rows)
    np.testing.assert_allclose(applied(package, image[0]), probabilities[0], atol=1e-5)
    # yseg's own verb, on the tile as a volume of three sections: away from the border, where it mirrors the image.
    halo = sizes(network.config.model)[2]
    inner = np.s_[halo:side - halo, halo:side - halo]
    expected = yseg.predict(network, image[0] + 1)[1]  # by section 0 would mean no tissue
    np.testing.assert_allclose(probabilities[0].transpose(1, 2, 0)[inner], expected[inner], atol=1e-5)
    assert expected[inner].std() > 1e-3


@pytest.mark.parametrize("fields", [{"classes": 3}, {"normalization": "group", "groups": 2}, {"compute_dtype": "bfloat16"}],
                         ids=str)
def test_other_networks_are_packed_too(tmp_path, fields):
    config = experiment(model=Model(**{"levels": 1, "features": 4} | fields))
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, steps=0))
    yseg.train(config, tmp_path / "run", quiet=True)
    package = tmp_path / "package"
    yseg.export(tmp_path / "run", package, format="bioimageio")
    image, probabilities = (np.load(package / name)[0] for name in ("test_input.npy", "test_output.npy"))
    assert probabilities.shape == (config.model.classes, *image.shape[1:])
    np.testing.assert_allclose(applied(package, image), probabilities, atol=1e-5)
    page = (package / "README.md").read_text()
    assert ("argmax" in page or "highest value" in page) == (config.model.classes > 2)
    assert ("bfloat16" in page) == (config.model.compute_dtype == "bfloat16")
    assert ("looks at the whole tile" in page) == (config.model.normalization == "group")


def test_a_released_model_has_no_data_and_shows_a_drawn_volume(run, tmp_path):
    released = yseg.load_model(yseg.export(run, tmp_path / "model"))
    package = tmp_path / "package"
    yseg.export(released, package, format="bioimageio")
    shown = np.load(package / "test_input.npy")[0]
    assert "drawn volume" in (package / "README.md").read_text()
    assert phantom("target", (1, 8, 8))[0].min() >= shown.min() >= 0
    np.testing.assert_allclose(applied(package, shown), np.load(package / "test_output.npy")[0], atol=1e-5)


def test_a_target_that_is_gone_is_replaced_by_a_drawn_volume(run, tmp_path):
    network = yseg.load_run(run)
    gone = dataclasses.replace(network.config.target, image=str(tmp_path / "gone.tif"))
    network = dataclasses.replace(network, config=dataclasses.replace(network.config, target=gone))
    yseg.export(network, tmp_path / "package", format="bioimageio")
    assert "drawn volume" in (tmp_path / "package" / "README.md").read_text()


def test_the_cover_is_small_and_shows_the_tile_beside_its_classes(package):
    cover = np.asarray(Image.open(package / "cover.png").convert("RGB")).astype(float)
    assert (package / "cover.png").stat().st_size < 500_000
    assert cover.shape == (COVER_SIDE, 2 * COVER_SIDE, 3)
    plain, painted = cover[:, :COVER_SIDE - 2], cover[:, COVER_SIDE + 2:]
    assert np.abs(plain - plain.mean(-1, keepdims=True)).mean() < 3  # grey, but for the palette
    foreground = np.load(package / "test_output.npy")[0, 1] >= 0.55
    coloured = np.ptp(painted, axis=-1) > 40
    assert abs(coloured.mean() - foreground.mean()) < 0.1


def test_the_page_says_threshold_pixel_size_and_what_the_network_leaves_out(run, tmp_path, package):
    page = (package / "README.md").read_text()
    assert "at least 0.55**" in page
    assert "10 nm in y and x" in page
    assert "Gaussian of deviation 40 nm" in page
    assert "fixed_zero_mean_unit_variance" in page
    assert PAPER in page
    assert "None" not in page
    network = changed(yseg.load_run(run), inference={"test_time_augmentation": True, "plausible_objects": True, "depth_nm": 0.0})
    yseg.export(network, tmp_path / "more", format="bioimageio")
    page = (tmp_path / "more" / "README.md").read_text()
    assert "eight rotations" in page
    assert "unlike that of the training labels" in page
    assert "Gaussian" not in page


def test_licences_and_citations_of_known_data_are_in_it(run, tmp_path):
    network = yseg.load_run(run)
    known = {name: {"name": data, **{key: getattr(DATASETS[data], key) for key in ("description", "licence", "citation")}}
             for name, data in (("source", "epfl"), ("target", "vnc"))}
    network = dataclasses.replace(network, provenance={**network.provenance, "data_sets": known})
    package = tmp_path / "package"
    yseg.export(network, package, format="bioimageio")
    page, rdf = (package / "README.md").read_text(), rdf_of(package)
    for data in known.values():
        assert data["licence"] in page
        assert data["citation"] in page
    assert {cite.get("doi") for cite in rdf["cite"]} >= {"10.48550/arXiv.1810.09734", "10.6084/m9.figshare.856713"}
    assert len(rdf["cite"]) == 3
    assert "mitochondria" in rdf["tags"]
    assert rdf["config"]["yseg"]["provenance"]["data_sets"] == known


def test_a_zip_file_holds_what_the_folder_holds(run, package, tmp_path):
    output = tmp_path / "new" / "package.zip"
    yseg.export(run, output, format="bioimageio", threshold=0.55)
    assert [path.name for path in output.parent.iterdir()] == ["package.zip"]
    with zipfile.ZipFile(output) as archive:
        assert {*archive.namelist()} == {path.name for path in package.iterdir()}
        for name in set(FILES) - {"rdf.yaml"}:
            assert archive.read(name) == (package / name).read_bytes()
        np.testing.assert_array_equal(np.load(io.BytesIO(archive.read("test_input.npy"))), np.load(package / "test_input.npy"))
    assert spec.load_model_description(output).validation_summary.status == "valid-format"


def test_only_a_package_is_replaced_and_only_if_asked(run, tmp_path):
    for name in ("package", "package.zip"):
        output = tmp_path / name
        yseg.export(run, output, format="bioimageio")
        with pytest.raises(InputError, match="exists; must be another folder, or give --overwrite"):
            yseg.export(run, output, format="bioimageio")
        yseg.export(run, output, format="bioimageio", overwrite=True, threshold=0.25)
        found = rdf_of(output) if output.is_dir() else yaml.safe_load(
            zipfile.ZipFile(output).read("rdf.yaml").decode().removeprefix("%YAML 1.2\n"))
        assert found["config"]["yseg"]["inference"]["threshold"] == 0.25
    (tmp_path / "package" / "thesis.tex").touch()
    yseg.export(run, tmp_path / "model")
    (tmp_path / "text.zip").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("rdf.yaml", "type: model\n")
    for name in ("package", "model", "text.zip", "other.zip"):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        with pytest.raises(InputError, match=r"exists and is no package of bioimage\.io, or more than that"):
            yseg.export(run, tmp_path / name, format="bioimageio", overwrite=True)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(InputError, match="exists and is no exported model"):
        yseg.export(run, tmp_path / "package.zip", overwrite=True)


def test_without_pytorch_it_has_no_weights_for_that(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    package = tmp_path / "package"
    yseg.export(run, package, format="bioimageio")
    assert {path.name for path in package.iterdir()} == {*FILES}
    assert {*rdf_of(package)["weights"]} == {"onnx"}
    assert "PyTorch" not in (package / "README.md").read_text()
    yseg.export(run, package, format="bioimageio", overwrite=True)


def test_pytorch_applies_it_with_the_file_that_it_holds(package):
    torch = pytest.importorskip("torch", reason="see tests/requirements.txt")
    weights = rdf_of(package)["weights"]["pytorch_state_dict"]
    names: dict = {}
    exec((package / weights["architecture"]["source"]).read_text(), names)
    network = names[weights["architecture"]["callable"]](**weights["architecture"]["kwargs"]).eval()
    network.load_state_dict(torch.load(package / weights["source"], weights_only=True))
    image, probabilities = (np.load(package / name) for name in ("test_input.npy", "test_output.npy"))
    normalised = (image - image.mean(dtype=np.float64)) / (image.std(dtype=np.float64) + EPSILON)
    with torch.no_grad():
        found = network(torch.from_numpy(normalised.astype(np.float32))).numpy()
    np.testing.assert_allclose(found, probabilities, atol=1e-5)
    assert "PyTorch" in (package / "README.md").read_text()


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "bioimageio.spec"])
def test_what_is_missing_is_named_in_one_line_and_nothing_is_written(run, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    said = rf'^--format=bioimageio: needs {missing}, which pip install "\.\[bioimageio\]" in the folder of yseg brings$'
    with pytest.raises(InputError, match=said):
        yseg.export(run, tmp_path / "package", format="bioimageio")
    assert not [*tmp_path.iterdir()]
    yseg.export(run, tmp_path / "model")  # yseg's own format needs none of them


def test_what_the_zoo_cannot_say_is_refused(run, tmp_path):
    network = changed(yseg.load_run(run), sampling={"normalization": LOCAL})
    with pytest.raises(InputError, match=r"must be yseg for a network of sampling\.normalization=local"):
        yseg.export(network, tmp_path / "package", format="bioimageio")
    with pytest.raises(InputError, match="--format=keras: must be one of yseg, bioimageio"):
        yseg.export(network, tmp_path / "package", format="keras")
    assert not [*tmp_path.iterdir()]


def test_a_network_that_onnx_runtime_computes_otherwise_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr("yseg.trained.bioimage.TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="differ from yseg's"):
        yseg.export(run, tmp_path / "package", format="bioimageio")
    assert not [*tmp_path.iterdir()]


def test_the_program_writes_it(run, tmp_path, capsys):
    output = tmp_path / "package.zip"
    with pytest.raises(SystemExit) as stop:
        program.run(launcher.PROGRAM, ["export", f"--workdir={run}", f"--output={output}", "--format=bioimageio",
                                       "--threshold=0.4", "--batch_statistics=training"])
    assert not stop.value.code
    assert capsys.readouterr().out == f"{output}\n"
    with zipfile.ZipFile(output) as archive:
        found = yaml.safe_load(archive.read("rdf.yaml").decode().removeprefix("%YAML 1.2\n"))["config"]["yseg"]
    assert found["inference"]["threshold"] == 0.4
    assert found["architecture"]["batch_statistics"] == "training"
    assert json.loads(json.dumps(found)) == found


def test_sizes_of_a_config_are_those_of_its_network():
    assert sizes(Model(levels=3)) == (120, 8, 56)
    assert Sampling().normalization == "volume"


@pytest.mark.slow
def test_nothing_is_told_to_the_makers_of_onnx_runtime(run, tmp_path):
    """Its telemetry is off, so that it leaves no identifier in the home folder either."""
    environment = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "launch.export", f"--workdir={run}", f"--output={tmp_path / 'package'}"]
    environment["HOME"] = str(home)
    subprocess.run([*command, "--format=bioimageio"], check=True, cwd=ROOT, env=environment, capture_output=True)
    assert not [path for path in home.rglob("*") if "onnxruntime" in path.name]
