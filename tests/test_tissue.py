"""Volumes of which a part is no tissue, or not what was meant, the whole way: trained on, adapted to, scored, segmented."""

import json

import jax
import numpy as np
import pytest
import tifffile
import zarr
from scipy import ndimage
from tiny import experiment

import yseg
from launch import evaluate as evaluation
from launch import program
from launch import segment as segmentation
from yseg.config import Domain, Inference, InputError, Optimizer, Sampling, SelfTraining
from yseg.runs.folder import load_state, read_config
from yseg.runs.renewal import LABELS, PSEUDO_LABELS
from yseg.volumes.volume import open_volume

NM = 10.0
SHAPE = (4, 64, 96)
PLACE = np.s_[1:5, 30:94, 20:116]  # of the tissue in a frame
Y, X = np.mgrid[:64, :96]
ROUND = np.broadcast_to((Y - 32) ** 2 + (X - 48) ** 2 < 45**2, SHAPE) & (np.arange(4) != 2)[:, None, None]  # a section is lost


def drawn(seed):
    """A bright volume with dark spots, and where they are."""
    random = np.random.default_rng(seed)
    spots = ndimage.gaussian_filter(random.standard_normal(SHAPE), (1, 5, 5))
    spots = spots > np.quantile(spots, 0.8)
    return (150 - 60 * spots + random.normal(0, 10, SHAPE)).clip(1, 255).astype(np.uint8), spots.astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of TIFF files, by name."""
    folder = tmp_path_factory.mktemp("volumes")
    (image, labels), (source, truth), (target, _) = map(drawn, range(3))
    lost = np.where(ROUND, image, np.nan).astype(np.float32)
    arrays = {"image": image, "labels": labels, "source": source, "truth": truth, "target": target,
              "round": ROUND.astype(np.uint8), "lost": lost, "ilastik": labels + 1}
    for name in ("image", "labels", "source", "truth"):
        framed = np.zeros((6, 128, 128), np.uint8)
        framed[PLACE] = arrays[name]
        arrays[f"framed_{name}"] = framed
    for name, array in arrays.items():
        tifffile.imwrite(folder / f"{name}.tif", array, photometric="minisblack")
    return {name: str(folder / f"{name}.tif") for name in arrays}


def config(files, source=None, **fields):
    source = {"image": files["source"], "labels": files["truth"], "validation_fraction": 0.2} | (source or {})
    target = Domain(image=files["target"], mask=files["round"], pixel_size_nm=NM, test_fraction=0.2)
    return experiment(source=Domain(pixel_size_nm=NM, **source), target=target, **fields)


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    """The workdir of a run that has learnt something; a part of its target is no tissue."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    yseg.train(config(files, optimizer=Optimizer(steps=30, warmup_steps=2, learning_rate=0.01),
                      inference=Inference(tile_size=64, overlap=4, depth_nm=40.0)), workdir, quiet=True)
    return workdir


def segmented(run, folder, image, **how):
    output = yseg.segment(run, image, str(folder / "segmented.zarr"), pixel_size_nm=NM, overwrite=True, quiet=True, **how)
    return zarr.open_array(f"{output}/0", mode="r")[:]


def exit_code(module, *arguments):
    with pytest.raises(SystemExit) as stopped:
        program.run(module.PROGRAM, ["program", *map(str, arguments)])
    return stopped.value.code


# --- Applied ---


@pytest.mark.parametrize("mask", ["border", "nodata=0"])
def test_a_frame_changes_neither_the_score_nor_the_segmentation(run, files, tmp_path, mask):
    expected = segmented(run, tmp_path, files["image"])
    assert 0.05 < expected.mean() < 0.5
    found = segmented(run, tmp_path, files["framed_image"], mask=mask)
    assert found.shape == (6, 128, 128)
    np.testing.assert_array_equal(found[PLACE], expected)
    assert found.sum() == expected.sum()
    part = segmented(run, tmp_path, files["framed_image"], mask=mask, region="0:3,0:60,100:128")
    np.testing.assert_array_equal(part, found[0:3, 0:60, 100:128])
    scores = [yseg.evaluate(run, image=files[f"{kind}image"], labels=files[f"{kind}labels"], pixel_size_nm=NM, quiet=True, **how)
              for kind, how in (("", {}), ("framed_", {"mask": mask}))]
    assert scores[0]["iou"] > 0.2
    for name in ("iou", "f1", "accuracy", "objects_f1"):
        assert scores[0].get(name) == scores[1].get(name)
    assert scores[1]["per_section_iou"][1:5] == scores[0]["per_section_iou"]
    with pytest.raises(InputError, match=r"--region=0:1,0:128,0:128: has no tissue; must have some of 1:5,30:94,20:116"):
        segmented(run, tmp_path, files["framed_image"], mask=mask, region="0:1,:,:")


def test_outside_of_a_mask_is_background_and_not_scored(run, files, tmp_path):
    found = segmented(run, tmp_path, files["image"], mask=files["round"])
    assert found[ROUND].any()
    assert not found[~ROUND].any()
    assert not segmented(run, tmp_path, files["image"], mask=files["round"], threshold=0.01)[~ROUND].any()
    scores = yseg.evaluate(run, image=files["image"], labels=files["labels"], pixel_size_nm=NM, mask=files["round"], quiet=True)
    truth = tifffile.imread(files["labels"])[ROUND] > 0
    assert scores["iou"] == pytest.approx((found[ROUND] & truth).sum() / (found[ROUND] | truth).sum())
    assert scores["per_section_iou"][2] is None


def test_sections_that_are_not_finite_are_named_or_left_out(run, files, tmp_path, capsys):
    output = tmp_path / "out.zarr"
    common = [f"--workdir={run}", f"--image={files['lost']}", f"--pixel_size_nm={NM:g}"]
    for main, more in ((segmentation, [f"--output={output}"]), (evaluation, [f"--labels={files['labels']}"])):
        assert exit_code(main, *common, *more) == program.BAD_INPUT
        line, = capsys.readouterr().err.splitlines()
        assert "lost.tif: has values that are not finite in section 0" in line
        assert "--nan=unlabelled" in line
    assert not output.exists()
    assert exit_code(segmentation, *common, f"--output={output}", "--nan=unlabelled") == program.DONE
    found, expected = zarr.open_array(f"{output}/0", mode="r")[:], segmented(run, tmp_path, files["image"], mask=files["round"])
    assert (found != expected).mean() < 1e-3  # the mean grey level, which lies around, is no whole number here
    assert not found[~ROUND].any()


# --- Trained ---


def parameters(workdir):
    return [leaf.tobytes() for leaf in jax.tree.leaves(load_state(workdir, read_config(workdir)).params)]


def test_a_training_on_a_framed_volume_is_that_on_its_tissue(files, tmp_path):
    framed = {"image": files["framed_source"], "labels": files["framed_truth"], "mask": "border"}
    for name, source in (("plain", None), ("framed", framed)):
        yseg.train(config(files, source), tmp_path / name, quiet=True)
    assert parameters(tmp_path / "plain") == parameters(tmp_path / "framed")


def test_an_adaptation_to_a_masked_target_is_the_same_from_memory_and_from_files_and_leaves_the_rest_open(run, files, tmp_path):
    knobs = SelfTraining(start=str(run), steps=2, renew_every=1)
    for reader in ("resident", "streaming"):
        sampling = Sampling(patch_size=16, batch_size=2, reader=reader)
        yseg.train(config(files, method="self_training", sampling=sampling, self_training=knobs), tmp_path / reader, quiet=True)
    assert parameters(tmp_path / "resident") == parameters(tmp_path / "streaming")
    labels = open_volume(str(tmp_path / "resident" / PSEUDO_LABELS / "1" / LABELS)).read().result()
    rows, columns = (np.flatnonzero(ROUND.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    tissue = ROUND[:, rows[0]:rows[-1] + 1, columns[0]:][..., :labels.shape[2]]
    assert (labels[~tissue] == -1).all()
    assert (labels[tissue] == 0).any()
    assert json.loads((tmp_path / "resident" / "choice.json").read_text())["use"] in ("adapted", "unadapted")


def test_what_cannot_be_learnt_is_named_before_the_training(files, tmp_path):
    with pytest.raises(InputError, match=r"^--config\.source\.foreground='>0': finds nothing but foreground .* 1 \(\d+\.\d%\),"
                                         r" 2 \(\d+\.\d%\); 1 and 2 are what ilastik writes"):
        yseg.train(config(files, {"labels": files["ilastik"]}), tmp_path / "ilastik", quiet=True)
    with pytest.raises(InputError, match=r"^--config\.source\.image=.*lost\.tif: has values that are not finite in section"):
        yseg.train(config(files, {"image": files["lost"]}), tmp_path / "lost", quiet=True)
    assert not (tmp_path / "ilastik").exists()
