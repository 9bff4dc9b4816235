"""A trained network applied to volumes: scored, and segmented; tiny volumes of 4 sections."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import tensorstore as ts
import tifffile
import zarr
from scipy import ndimage
from skimage.metrics import variation_of_information
from tiny import domain, experiment

import yseg
from launch import program, segment
from yseg.config import Inference, Optimizer
from yseg.data.box import parse_region
from yseg.data.grey_levels import statistics
from yseg.data.grid import Grid
from yseg.inference.blocks import predict_blocks
from yseg.inference.outputs import predicted_classes
from yseg.inference.predictor import make_predictor
from yseg.metrics.counts import confusion
from yseg.runs.folder import load_state, read_config
from yseg.training.state import inference_variables
from yseg.volumes.arrays import create_array
from yseg.volumes.create import create_volume
from yseg.volumes.volume import open_volume

SHAPE, TEST_BOX = (4, 64, 96), "0:4,0:64,67:96"  # the last 30 % of x


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The workdir of a run on volumes of 5 and 4.6 nm."""
    workdir = tmp_path_factory.mktemp("runs") / "trained"
    yseg.train(experiment(
        source=domain("source", sections=4, seed=0, pixel_size_nm=5.0, validation_fraction=0.3),
        target=domain("target", sections=4, seed=0, pixel_size_nm=4.6, test_fraction=0.3),
        optimizer=Optimizer(steps=40, warmup_steps=2, learning_rate=0.01),
        inference=Inference(tile_size=64, overlap=4, depth_nm=0)), workdir, quiet=True)
    return workdir


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy_of(spec, path, pixel_size_nm):
    """The path of a Zarr volume with the values of another volume."""
    with create_array(str(path), SHAPE, np.uint8, pixel_size_nm) as store:
        store.write(open_volume(spec).read().result()).result()
    return str(path)


# --- Evaluation ---


@pytest.mark.parametrize(("given", "named"), [
    ({"image": "missing.tif", "labels": "a.tif", "pixel_size_nm": 5.0}, "--image=.*missing.tif"),
    ({"image": "missing.tif", "labels": "a.tif"}, "--image=.*missing.tif: no such file"),
    ({"channel": 1}, "--channel=1: must come with --image"),
    ({"image": "missing.tif", "pixel_size_nm": 5.0}, "--labels is missing"),
    ({"labels": "a.tif"}, "--labels=a.tif: must come with --image"),
    ({"pixel_size_nm": -1.0, "image": "a.tif", "labels": "b.tif"}, "--pixel_size_nm=-1.0"),
    ({"foreground": "many", "image": "a.tif", "labels": "b.tif", "pixel_size_nm": 5.0}, "--foreground='many'"),
    ({"region": "0:9,:,:"}, "--region=0:9"),
    ({"threshold": 1.5}, "--threshold=1.5"),
    ({"domain": "both"}, "source, target"),
    ({"batch_statistics": "both"}, "--batch_statistics=both: must be one of training, target, mixed"),
    ({"threshold": "matched", "domain": "source"}, "^--threshold=matched: must be a number with --domain=source"),
])
def test_what_is_wrong_with_an_evaluation_is_named_in_one_line_and_nothing_is_written(trained, given, named):
    before = files(trained)
    with pytest.raises(yseg.InputError, match=named) as raised:
        yseg.evaluate(trained, **given)
    assert "\n" not in str(raised.value)
    assert files(trained) == before


def predicted(workdir, region):
    """The probabilities of a region of the target, predicted in one piece."""
    config = read_config(workdir)
    store = open_volume(config.target.image)
    grid = Grid(tuple(store.shape), config.target.pixel_size_nm, config.sampling.working_pixel_size_nm)
    variables = inference_variables(load_state(workdir, config), config.model.batch_statistics)
    blocks = predict_blocks(make_predictor(config.model, config.inference, variables), store, grid, statistics(store),
                            regions=[region], model=config.model, inference=config.inference)
    return np.concatenate([probabilities for _, probabilities in blocks])


def test_an_evaluation_scores_the_test_box_of_the_target(trained):
    results = yseg.evaluate(trained, quiet=True)
    assert json.loads((trained / "results.json").read_text()) == results
    box = parse_region(TEST_BOX, SHAPE)
    assert results["region"] == TEST_BOX
    truth = open_volume(read_config(trained).target.labels)[box.slices].read().result() > 0
    matrix = confusion(truth.astype(int), predicted(trained, box)[..., 1] >= 0.5, 2)
    (tn, fp), (fn, tp) = matrix.tolist()
    assert min(tp, fp, tn) > 0
    assert (results["threshold"], results["voxels"], results["step"]) == (0.5, truth.size, 40)
    assert results["iou"] == tp / (tp + fp + fn)
    assert results["precision"] == tp / (tp + fp)
    assert results["recall"] == tp / (tp + fn)
    assert results["f1"] == 2 * tp / (2 * tp + fp + fn)
    assert results["accuracy"] == (tp + tn) / truth.size
    split, merge = variation_of_information(ndimage.label(truth)[0], ndimage.label(predicted(trained, box)[..., 1] >= 0.5)[0])
    assert (results["voi_split"], results["voi_merge"]) == pytest.approx((split, merge))
    assert results["recognition_quality"] == results["object_f1"]
    assert {"panoptic_quality", "ap_50", "ap_75", "adapted_rand_error"} <= {*results}
    assert len(results["per_section_iou"]) == 4
    assert (trained / "report" / "evaluation.png").read_bytes().startswith(b"\x89PNG")


def answers(workdir):
    """What evaluations have left in a run: bytes by name."""
    return {path.name: path.read_bytes() for path in [*workdir.glob("results*.json"), *(workdir / "report").glob("evaluation*")]}


def test_the_runs_own_test_has_one_answer_however_it_is_asked_for(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    first = yseg.evaluate(run, quiet=True)
    left = set(answers(run))
    for network, question in ((run, {"threshold": 0.5}), (run, {"batch_statistics": "target"}), (yseg.load_run(run), {}),
                              (run, {"test_time_augmentation": False, "domain": "target"})):
        results = yseg.evaluate(network, quiet=True, **question)
        assert {name for name in first if first[name] != results[name]} <= {"wall_time"}
        assert json.loads((run / "results.json").read_text()) == results
        assert set(answers(run)) == left


def ask_all(run, questions):
    """Ask questions of a run, each of which must get files of its own and leave those of all others; returns their names."""
    names = []
    for network, question in questions:
        before = answers(run)
        results = yseg.evaluate(network, quiet=True, **question)
        after = answers(run)
        assert {name: after[name] for name in before} == before, question
        (name,) = (name for name in after if name not in before and name.endswith(".json"))
        assert json.loads(after[name]) == results
        assert name.replace("results", "evaluation").replace(".json", ".png") in after
        names.append(name)
    return names


def test_every_other_question_is_answered_beside_the_runs_own_test(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    yseg.evaluate(run, quiet=True)
    questions = [
        {"domain": "source"}, {"region": "1:3,:,10:"}, {"region": "0:2,:,10:"}, {"threshold": 0.4}, {"threshold": 0.25},
        {"threshold": "matched"}, {"batch_statistics": "source"}, {"batch_statistics": "mixed"}, {"test_time_augmentation": True},
        {"domain": "source", "batch_statistics": "target"}, {"region": "1:3,:,10:", "threshold": 0.4},
        {"image": read_config(run).target.image}]
    names = ask_all(run, [(run, question) for question in questions])
    assert names[:9] == [f"results_{name}.json" for name in (
        "source", "region_1-3-0-64-10-96", "region_0-2-0-64-10-96", "threshold_0.4", "threshold_0.25", "matched",
        "training_statistics", "mixed_statistics", "augmented")]
    before = answers(run)
    yseg.evaluate(run, quiet=True, batch_statistics="training")  # the same question by another name
    assert set(answers(run)) == set(before)


def test_thresholds_that_differ_in_their_last_digits_are_different_questions(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    ask_all(run, [(run, {"threshold": threshold}) for threshold in (0.12345678, 0.12345679)])


def test_a_network_that_was_loaded_and_changed_asks_another_question_than_the_run(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    yseg.evaluate(run, quiet=True)
    network = yseg.load_run(run)
    ask_all(run, [(network.with_statistics("training"), {}), (network.with_views(True), {})])


def test_images_of_one_name_in_two_folders_and_other_labels_of_an_image_are_different_questions(trained, tmp_path):
    run, target = shutil.copytree(trained, tmp_path / "run"), read_config(trained).target
    given = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        given.append({"image": copy_of(target.image, tmp_path / folder / "image.zarr", 4.6), "pixel_size_nm": 4.6,
                      "labels": copy_of(target.labels, tmp_path / folder / "labels.zarr", 4.6)})
    yseg.evaluate(run, quiet=True)
    names = ask_all(run, [(run, each) for each in (
        *given, {**given[0], "labels": given[1]["labels"]}, {**given[0], "foreground": "==0"},
        {**given[0], "pixel_size_nm": 5.0, "metadata": "ignored"}, {**given[0], "region": ":2,:,:"})])
    assert all(name.startswith("results_image_") for name in names)


def test_the_statistics_of_the_training_are_the_other_ones(trained):
    usual = yseg.evaluate(trained, quiet=True)
    for name in ("source", "training"):  # which earlier versions called the source's
        other = yseg.evaluate(trained, batch_statistics=name, quiet=True)
        assert (usual["batch_statistics"], other["batch_statistics"]) == ("target", "training")
        assert json.loads((trained / "results_training_statistics.json").read_text()) == other
        assert other["accuracy"] != usual["accuracy"]


def test_a_volume_of_its_own_is_scored_like_the_configs(trained, tmp_path):
    target, box = read_config(trained).target, parse_region("1:3,:,10:", SHAPE)
    image, labels = (copy_of(getattr(target, name), tmp_path / f"{name}.zarr", 4.6) for name in ("image", "labels"))
    given = {"image": image, "labels": labels, "pixel_size_nm": 4.6, "quiet": True}
    own = yseg.evaluate(trained, foreground=">0", region="1:3,:,10:", **given)
    known = yseg.evaluate(trained, image=target.image, region="1:3,:,10:", quiet=True)
    assert own["voxels"] == math.prod(box.shape)
    differing = {name for name in own if own[name] != known[name]}
    assert differing <= {"image", "labels", "wall_time"}
    nothing = yseg.evaluate(trained, foreground=">250", threshold=1.0, **given)
    assert nothing["recall"] is None


# --- Segmentation ---


def test_the_source_is_segmented_with_its_own_batch_statistics(trained, tmp_path):
    source = read_config(trained).source
    whole = yseg.evaluate(trained, image=source.image, labels=source.labels, quiet=True)
    assert whole["batch_statistics"] == "training"
    found = {}
    for name in (None, "source", "training", "target"):
        output = str(tmp_path / f"{name}.zarr")
        yseg.segment(trained, source.image, output, batch_statistics=name, threshold=0.4, quiet=True)
        found[name] = zarr.open_array(f"{output}/0", mode="r")[:]
    assert (found[None] == found["training"]).all()
    assert (found["source"] == found["training"]).all()
    assert (found[None] != found["target"]).any()
    with pytest.raises(yseg.InputError, match=r"--output=.*: holds --image=.*, which is read"):
        yseg.segment(trained, f"{output}/0", output, pixel_size_nm=5.0, overwrite=True, quiet=True)


def test_a_segmentation_holds_the_predicted_classes_for_every_reader_of_zarr(trained, tmp_path):
    config, output = read_config(trained), tmp_path / "segmented.zarr"
    assert yseg.segment(trained, config.target.image, str(output), region="1:4,:,5:60", quiet=True) == str(output)
    expected = predicted_classes(predicted(trained, parse_region("1:4,:,5:60", SHAPE)), config.inference.threshold)
    assert 0 < expected.mean() < 1
    store = ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(output / "0")}}).result()
    for values in (store.read().result(), zarr.open_array(output / "0", mode="r")[...]):
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values, expected)
    (multiscale,) = zarr.open_group(output, mode="r").attrs["ome"]["multiscales"]
    assert multiscale["datasets"][0]["coordinateTransformations"][0]["scale"][1:] == [4.6, 4.6]
    assert multiscale["datasets"][0]["coordinateTransformations"][1]["translation"] == [1, 0, 23]  # of the region
    assert (trained / "report" / "segmentation.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("size", "region", "expected"), [(4.6, None, (30, 200, 100)), (4.6, "1:3,8:,16:60", (31, 208, 116)),
                                                          (9.2, "1:3,8:,16:40", (31, 108, 66))])
def test_a_segmentation_lies_where_its_image_does(trained, tmp_path, size, region, expected):
    image, values = f"{tmp_path}/a.precomputed", open_volume(read_config(trained).target.image).read().result()
    with create_volume(image, SHAPE, np.uint8, 4.6, section_nm=50.0, kind="image", start=(30, 200, 100)) as store:
        store[...] = values
    yseg.segment(trained, image, tmp_path / "b.precomputed", pixel_size_nm=size, region=region, quiet=True)
    found = ts.open({"driver": "neuroglancer_precomputed", "kvstore": f"file://{tmp_path}/b.precomputed/"}).result()
    assert found.domain.origin[2::-1] == expected
    yseg.segment(trained, image, tmp_path / "c.zarr", pixel_size_nm=size, region=region, quiet=True)
    level = zarr.open_group(tmp_path / "c.zarr", mode="r").attrs["ome"]["multiscales"][0]["datasets"][0]
    assert level["coordinateTransformations"][1]["translation"] == pytest.approx(np.array(expected) * (50, size, size))


def test_an_output_is_replaced_only_if_asked_to(trained, tmp_path):
    image, output = read_config(trained).target.image, str(tmp_path / "segmented.zarr")
    yseg.segment(trained, image, output, region="0:1,:,:", quiet=True)
    before = files(tmp_path)
    with pytest.raises(yseg.InputError, match=r"--output=.*--overwrite"):
        yseg.segment(trained, image, output, region="0:2,:,:", quiet=True)
    assert files(tmp_path) == before
    yseg.segment(trained, image, output, region="0:2,:,:", overwrite=True, quiet=True)
    assert zarr.open_array(f"{output}/0", mode="r").shape == (2, 64, 96)


def test_classes_and_probability_in_any_format(trained, tmp_path):
    config = read_config(trained)
    expected = predicted(trained, parse_region("1:3,:,5:60", SHAPE))
    for what, name, format in (("probability", "a.tif", None), ("both", "b.zarr", "ome-zarr-0.4"), ("both", "c.h5:seg", None)):
        yseg.segment(trained, config.target.image, tmp_path / name, region="1:3,:,5:60", what=what, format=format, quiet=True)
    found = {"a": tifffile.imread(tmp_path / "a.tif"),
             "b": zarr.open_array(tmp_path / "b_probability.zarr" / "0", zarr_format=2)[...],
             "c": open_volume(f"{tmp_path / 'c_probability.h5'}:seg").read().result()}
    for values in found.values():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[..., 1], atol=1e-6)
    classes = predicted_classes(expected, config.inference.threshold)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "b.zarr" / "0", zarr_format=2)[...], classes)
    np.testing.assert_array_equal(open_volume(f"{tmp_path / 'c.h5'}:seg").read().result(), classes)


def test_the_program_prints_where_both_outputs_are(trained, tmp_path, capsys):
    values = program.parse(segment.PROGRAM, ["segment", f"--workdir={trained}", f"--image={read_config(trained).target.image}",
                                             f"--output={tmp_path}/a.tif", "--region=0:1,:,:", "--what=both"])
    segment.main(values)
    assert capsys.readouterr().out.splitlines()[-2:] == [f"{tmp_path}/a.tif", f"{tmp_path}/a_probability.tif"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a_probability.tif"]


def test_the_group_that_holds_the_image_is_never_replaced(trained, tmp_path):
    group = zarr.open_group(tmp_path / "precious.zarr", mode="w", zarr_format=2)
    for level in ("0", "1"):
        group.create_array(level, shape=(2, 64, 64), dtype="uint8")[...] = 7
    before = files(tmp_path)
    for output in ("precious.zarr", "precious.zarr/0/new.zarr"):
        with pytest.raises(yseg.InputError, match=r"^--output=.*: (holds|lies in) --image=.*/0, which is read"):
            yseg.segment(trained, str(tmp_path / "precious.zarr" / "0"), tmp_path / output, pixel_size_nm=5.0, overwrite=True)
    assert files(tmp_path) == before


def test_what_a_run_was_trained_on_is_never_replaced(trained, tmp_path):
    config, labels = read_config(trained), str(tmp_path / "labels.zarr")
    with create_volume(labels, SHAPE, np.uint8, 5.0) as store:
        store[...] = 1
    network = yseg.load_run(trained)
    network = dataclasses.replace(network, config=dataclasses.replace(
        config, source=dataclasses.replace(config.source, labels=f"{labels}/0")))
    before = files(tmp_path)
    with pytest.raises(yseg.InputError, match=r"^--output=.*: holds source\.labels=.*, which is read"):
        yseg.segment(network, config.target.image, labels, overwrite=True, quiet=True)
    assert files(tmp_path) == before


def test_what_is_wrong_with_a_segmentation_leaves_no_output(trained, tmp_path):
    with pytest.raises(yseg.InputError, match=r"--image=.*a\.tif: no such file"):
        yseg.segment(trained, str(tmp_path / "a.tif"), str(tmp_path / "o.zarr"))
    sized = copy_of(read_config(trained).target.image, tmp_path / "sized.zarr", 4.6)
    with pytest.raises(yseg.InputError, match="--pixel_size_nm is missing"):
        yseg.segment(trained, sized, str(tmp_path / "o.zarr"), metadata="ignored")
    with pytest.raises(yseg.InputError, match=r"--pixel_size_nm=4: .* measures 4\.6 nm"):
        yseg.segment(trained, sized, str(tmp_path / "o.zarr"), pixel_size_nm=4.0)
    with pytest.raises(yseg.InputError, match="--region"):
        yseg.segment(trained, read_config(trained).target.image, str(tmp_path / "o.zarr"), region="0:0,:,:")
    assert [path.name for path in tmp_path.iterdir()] == ["sized.zarr"]
