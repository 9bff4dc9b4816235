"""A released model: written whole, applied like the run, and refused when it is damaged."""

import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr

import yseg
from launch import evaluate as evaluation
from launch import export as launcher
from launch import program
from launch import segment as segmentation
from yseg.config import Domain, Experiment, Inference, Model, Optimizer, Record, Sampling, no_augmentation
from yseg.runs.folder import read_config
from yseg.trained.released import normalisation


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of a run with what only its training needs: a reconstruction decoder."""
    def domain(name, **fields):
        image, labels = (f"phantom://{name}/{content}?shape=3,64,96&seed=2" for content in ("image", "labels"))
        return Domain(**{"image": image, "labels": labels, "foreground": ">0"} | fields)

    workdir = tmp_path_factory.mktemp("runs") / "ynet"
    yseg.train(Experiment(
        name="tiny", method="ynet", source=domain("source", validation_fraction=0.3), target=domain("target", test_fraction=0.3),
        sampling=Sampling(patch_size=16, batch_size=2, normalization="section"),
        model=Model(levels=1, features=4, sections=3),
        augmentation=no_augmentation(),
        optimizer=Optimizer(steps=8, warmup_steps=1, learning_rate=0.01),
        inference=Inference(tile_size=32, overlap=4, depth_nm=0),
        record=Record(validate_every=0, images=0)), workdir, quiet=True)
    return workdir


@pytest.fixture
def model(run, tmp_path):
    return yseg.export(run, tmp_path / "model")


def contents(folder):
    return {name: (folder / name).read_bytes() for name in os.listdir(folder)}


def segmented(network, image, folder, **how):
    output = yseg.segment(network, image, str(folder / f"{len(os.listdir(folder))}.zarr"), quiet=True, **how)
    return zarr.open_array(f"{output}/0", mode="r")[:]


@pytest.mark.parametrize("statistics", [None, "training", "source", "mixed"])
def test_it_segments_and_scores_as_the_run_does_to_the_bit(run, tmp_path, statistics):
    target = read_config(run).target
    model = yseg.load_model(yseg.export(run, tmp_path / "model", batch_statistics=statistics, threshold=0.55))
    before, how = contents(tmp_path / "model"), {"pixel_size_nm": target.pixel_size_nm}
    expected = segmented(run, target.image, tmp_path, batch_statistics=statistics, threshold=0.55)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(segmented(model, target.image, tmp_path, **how), expected)
    ours, its = (yseg.evaluate(network, image=target.image, labels=target.labels, quiet=True, **more, **how)
                 for network, more in ((model, {}), (run, {"batch_statistics": statistics, "threshold": 0.55})))
    assert {name for name in its if its[name] != ours[name]} <= {"wall_time"}
    assert contents(tmp_path / "model") == before


def test_it_holds_the_segmentation_network_alone_in_arrays_that_need_no_pickle(model, run):
    with np.load(os.path.join(model, "weights.npz"), allow_pickle=False) as file:
        assert {"/".join(name.split("/")[:2]) for name in file.files} == {
            f"{kind}/{part}" for kind in ("params", "batch_stats") for part in ("encoder", "decoder")}
        assert all(file[name].dtype == np.float32 for name in file.files)


def test_it_says_what_it_is_and_where_it_comes_from(run, model):
    config = read_config(run)
    network = yseg.load_model(model)
    found, provenance = json.loads((Path(model) / "model.json").read_text()), network.provenance
    assert provenance == found["provenance"]
    assert (network.config.model, network.config.inference) == (config.model, config.inference)
    assert (found["working_pixel_size_nm"], found["inference"]["threshold"]) == (10.0, 0.5)
    assert found["architecture"] == vars(config.model)
    assert (provenance["method"], provenance["seed"], provenance["step"]) == ("ynet", 0, 8)
    assert provenance["validation_iou"] == yseg.evaluate(run, domain="source", quiet=True)["iou"]
    assert provenance["data_sets"] == {"source": None, "target": None}
    assert provenance["yseg"] == yseg.__version__


def test_a_data_set_comes_with_its_licence_and_citation(run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    config["source"]["dataset"] = "epfl"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    (tmp_path / "run" / "checkpoints").symlink_to(run / "checkpoints")
    source = yseg.load_model(yseg.export(tmp_path / "run", tmp_path / "model")).provenance["data_sets"]["source"]
    assert source["name"] == "epfl"
    assert "Lucchi" in source["citation"]
    assert source["licence"]


def test_an_output_is_replaced_whole_and_only_if_asked_to(run, model, tmp_path):
    before = contents(tmp_path / "model")
    with pytest.raises(yseg.InputError, match=r"--output=.*exists; .*--overwrite"):
        yseg.export(run, model)
    assert contents(tmp_path / "model") == before
    yseg.export(run, model, overwrite=True, threshold=0.25)
    assert yseg.load_model(model).config.inference.threshold == 0.25
    assert os.listdir(tmp_path) == ["model"]  # nothing unfinished is left
    (tmp_path / "thesis").mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "model.json").write_text('{"format": "layers-model"}')
    (tmp_path / "link").symlink_to(model)
    (tmp_path / "model" / "notes.txt").write_text("x")
    before = contents(tmp_path / "model")
    for name in ("thesis", "others", "link", "model"):
        with pytest.raises(yseg.InputError, match=r"is no exported model .* or more than that"):
            yseg.export(run, tmp_path / name, overwrite=True)
    assert contents(tmp_path / "model") == before


def test_what_cannot_be_exported_is_named_and_leaves_nothing(run, tmp_path):
    for given, named in (({"threshold": 2.0}, "--threshold=2.0"), ({"batch_statistics": "both"}, "--batch_statistics=both")):
        with pytest.raises(yseg.InputError, match=named):
            yseg.export(run, tmp_path / "model", **given)
    with pytest.raises(yseg.InputError, match="--workdir="):
        yseg.export(tmp_path / "missing", tmp_path / "model")
    (tmp_path / "file").write_text("x")
    with pytest.raises(yseg.InputError, match=r"--output=.*cannot be created"):
        yseg.export(run, tmp_path / "file" / "model")
    assert os.listdir(tmp_path) == ["file"]


def flip_a_bit(folder):
    content = bytearray((folder / "weights.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "weights.npz").write_bytes(content)


def changed(**fields):
    def damage(folder):
        found = json.loads((folder / "model.json").read_text())
        for name, value in fields.items():
            group, _, field = name.partition("__")
            if field:
                found[group][field] = value
            else:
                found[group] = value
        (folder / "model.json").write_text(json.dumps(found))
    return damage


@pytest.mark.parametrize(("damage", "said"), [
    (flip_a_bit, r"weights\.npz is damaged: its sha256"),
    (lambda folder: (folder / "weights.npz").unlink(), r"weights\.npz cannot be read"),
    (lambda folder: (folder / "model.json").unlink(), r"must be a folder written by launch\.export"),
    (lambda folder: (folder / "model.json").write_text("{"), r"model\.json is damaged"),
    (lambda folder: (folder / "model.json").write_text("[]"), r"model\.json is damaged"),
    (changed(format_version=3), "version 3; must be 'yseg model', at most version 2"),
    (changed(prior={"share": 2}), r"model\.json is damaged"),
    (changed(format="other"), "format 'other'"),
    (changed(normalisation={"method": "rank"}), "normalisation"),
    (changed(architecture=None), r"model\.json is damaged"),
    (changed(architecture__levels="many"), r"model\.json"),
    (changed(architecture__levels=2), "does not fit the architecture"),
    (changed(architecture__features=8), "does not fit the architecture"),
    (changed(architecture__shape="cube"), "not a network of this version"),
    (changed(working_pixel_size_nm=-1.0), "working_pixel_size_nm=-1.0: must be above 0"),
])
def test_what_is_damaged_is_named_in_one_line(damage, said, model, tmp_path):
    damage(tmp_path / "model")
    with pytest.raises(yseg.InputError, match=said) as raised:
        yseg.load_model(model)
    assert str(raised.value).startswith(f"--model={model}")
    assert "\n" not in str(raised.value)


def test_weights_that_would_execute_something_are_refused(model, tmp_path):
    np.savez(tmp_path / "model" / "weights.npz", **{"params/encoder": np.array([print], object)})
    changed(weights__sha256=hashlib.sha256((tmp_path / "model" / "weights.npz").read_bytes()).hexdigest())(tmp_path / "model")
    with pytest.raises(yseg.InputError, match=r"weights\.npz cannot be read"):
        yseg.load_model(model)


class Evil:
    """What, read from a pickle, makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["pickle", "array in an archive", "a name that leaves the folder"])
def test_nothing_in_a_file_of_weights_is_executed_or_written_elsewhere(form, model, tmp_path):
    weights, evil = tmp_path / "model" / "weights.npz", tmp_path / "evil"
    pickle.loads(pickle.dumps(Evil(evil)))
    assert evil.exists()  # as it would be
    evil.unlink()
    if form == "pickle":
        weights.write_bytes(pickle.dumps(Evil(evil)))
    elif form == "array in an archive":
        np.savez(weights, **{"params/encoder": np.array([Evil(evil)], object)})
    else:
        with zipfile.ZipFile(weights, "w") as archive:
            archive.writestr("../evil", b"")
    changed(weights__sha256=hashlib.sha256(weights.read_bytes()).hexdigest())(tmp_path / "model")
    with pytest.raises(yseg.InputError, match=r"weights\.npz (cannot be read|does not fit)"):
        yseg.load_model(model)
    assert not evil.exists()


def test_the_programs(run, tmp_path, capsys):
    def execute(module, *arguments):
        with pytest.raises(SystemExit) as stop:
            program.run(module.PROGRAM, ["program", *map(str, arguments)])
        return stop.value.code or 0, *capsys.readouterr()

    model, output, target = tmp_path / "model", tmp_path / "s.zarr", read_config(run).target
    assert execute(launcher, f"--workdir={run}", f"--output={model}") == (0, f"{model}\n", "")
    shown = [f"--image={target.image}", f"--pixel_size_nm={target.pixel_size_nm}"]
    assert execute(segmentation, f"--model={model}", f"--output={output}", *shown)[:2] == (0, f"{output}\n")
    code, out, _ = execute(evaluation, f"--model={model}", f"--labels={target.labels}", *shown)
    assert (code, out.splitlines()[-1][:4]) == (0, "IoU ")
    for module, arguments, said in (
            (segmentation, [f"--output={output}", *shown], "--workdir is missing"),
            (segmentation, [f"--model={model}", f"--workdir={run}", f"--output={output}", *shown], "--model="),
            (segmentation, [f"--model={model}", f"--output={tmp_path / 't.zarr'}", "--image=gone.tif"], "--image="),
            (segmentation, [f"--model={model}", f"--output={tmp_path / 't.zarr'}", "--batch_statistics=source", *shown],
             "--batch_statistics"),
            (evaluation, [f"--model={model}"], "--image is missing"),
            (evaluation, [f"--model={tmp_path}"], "--model=")):
        code, out, err = execute(module, *arguments)
        assert (code, out, err.count("\n")) == (program.BAD_INPUT, "", 1), err
        assert err.startswith(said)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(normalization="section"),
                                      Sampling(normalization="local", local_nm=150.0)])
def test_grey_levels_are_normalised_as_the_model_says(sampling, model):
    path = Path(model) / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalisation": normalisation(sampling)}))
    found = yseg.load_model(model).config.sampling
    assert (found.normalization, found.local_nm) == (sampling.normalization, sampling.local_nm)
