"""A catalogue of bad inputs: each gets one line that names it, exit code 2, and nothing is written.

A row is a program, its flags, and what the line has to say. {NAME} in flags is a file or folder of `inputs`.
"""

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tiny import experiment

import yseg
from launch import program
from yseg.config import Optimizer
from yseg.config_json import to_json
from yseg.runs.resolve import resolve

ROOT = Path(__file__).parents[1]
CUSTOM = "--config=configs/custom.py:ft"
SMALL = ("--config.sampling.patch_size=8", "--config.model.levels=1", "--config.model.features=4",
         "--config.inference.tile_size=64")
SOURCE = ("--config.source.image={image.tif}", "--config.source.labels={labels.tif}", "--config.source.pixel_size_nm=16")
TARGET = ("--config.target.image={image.tif}", "--config.target.pixel_size_nm=16")
RUN, TO_SEGMENT = "--workdir={run}", ("--workdir={run}", "--image={image.tif}", "--pixel_size_nm=16")


def train(*flags, config=CUSTOM, small=SMALL, source=SOURCE, target=TARGET):
    """The flags of a training that is right but for some of them, which come last."""
    return ("train", config, "--workdir={new}", *small, *source, *target, *flags)


def knob(name, value, said):
    """A row of a knob that is out of its range."""
    return train(f"--config.{name}={value}"), f"--config.{name}={said}"


ROWS = [
    # --- Flags ---
    (("train", "--workdir={new}"), "--config is missing: must be FILE.py:METHOD"),
    (("train", CUSTOM), "--workdir is missing"),
    (train(CUSTOM), "given twice"),
    (train(config="--config=configs/nowhere.py:ft"), "no file configs/nowhere.py"),
    (train(config="--config={text.txt}:ft"), "cannot be loaded"),
    (train(config="--config=configs/custom.py:fft"), "--config.method='fft': must be one of ft, mmd"),
    (train("--seeds=1,1"), "--seeds=1,1: must differ from one another"),
    (train("--seeds=one"), "--seeds=one: must be whole numbers of at least 0"),
    (train("--budget=tiny"), "--budget=tiny"),
    (train("--together=perhaps"), "--together=perhaps: must be true or false"),
    (train("--wrokdir=x"), "--wrokdir: unknown flag; did you mean --workdir?"),
    (train("--flagfile={missing.tif}"), "Unable to open flagfile"),
    (("evaluate", "--flagfile={missing.tif}"), "Unable to open flagfile"),
    (train("x"), "'x': must be a flag, --NAME=VALUE"),
    (train("--config.model=3"), "--config.model: is a group of knobs"),
    (train("--config.model.level=3"), "did you mean --config.model.levels?"),
    # --- Knobs ---
    knob("seed", "-1", "-1: must be at least 0"),
    knob("sampling.working_pixel_size_nm", "0", "0.0: must be above 0"),
    knob("sampling.normalization", "mean", "'mean': must be one of volume, section, local"),
    knob("sampling.batch_size", "0", "0: must be at least 1"),
    knob("sampling.patch_size", "7", "7: must be a multiple of 2"),
    knob("sampling.reader", "fast", "'fast': must be one of auto, resident, streaming"),
    knob("sampling.steps_at_once", "21", "21: must be at most --config.record.log_every=20"),
    knob("augmentation.elastic_probability", "1.5", "1.5: must be at most 1"),
    knob("augmentation.noise", "inf", "inf: must be finite"),
    knob("model.levels", "8", "8: must be at most 7"),
    knob("model.classes", "1", "1: must be at least 2"),
    knob("model.sections", "2", "2: must be odd"),
    knob("model.dropout", "1", "1.0: must be below 1"),
    knob("model.normalization", "layer", "'layer': must be one of batch"),
    knob("model.compute_dtype", "float16", "'float16': must be one of float32, bfloat16"),
    knob("loss.name", "dice", "'dice': must be one of cross_entropy"),
    knob("loss.class_weights", "(1,2,3)", "(1, 2, 3): must have --config.model.classes=2 entries"),
    knob("adaptation.bandwidths", "()", "(): must be numbers above 0"),
    knob("optimizer.name", "rmsprop", "'rmsprop': must be one of adam, sgd"),
    knob("optimizer.steps", "1e3", "1e3: must be a whole number"),
    knob("optimizer.learning_rate", "0", "0.0: must be above 0"),
    knob("optimizer.momentum", "1", "1.0: must be below 1"),
    knob("self_training.average", "1", "1.0: must be below 1"),
    knob("record.log_every", "0", "0: must be at least 1"),
    knob("inference.threshold", "2", "2.0: must be at most 1"),
    knob("inference.tile_size", "16", "16: must be at least"),
    knob("target.test_fraction", "1", "1.0: must be below 1"),
    knob("source.split_axis", "w", "'w': must be one of z, y, x"),
    (train("--config.source.validation_fraction=0.6", "--config.source.test_fraction=0.4"), "nothing is left to train on"),
    (train("--config.method=ynet", "--config.target_labels.use=only"), "--config.method=ynet: must be ft"),
    (train("--config.target_labels.use=joint", "--config.target_labels.fraction=0"), "--config.target_labels.fraction=0"),
    (train("--config.target_labels.boxes=('0:1,:,:',)"), "--config.target_labels.boxes=('0:1,:,:',): must come with"),
    (train("--config.method=self_training", "--config.model.classes=3"), "--config.model.classes=3: must be 2"),
    # --- Volumes ---
    (train(source=SOURCE[1:]), "--config.source.image is empty"),
    (train(source=SOURCE[:2]), "--config.source.pixel_size_nm=0.0: must be given"),
    (train(source=SOURCE[::2]), "--config.source.labels is empty: must be the label volume"),
    (train(target=()), "--config.target.image is empty"),
    (train("--config.source.dataset=epfl9"), "--config.source.dataset=epfl9: must be one of epfl"),
    (train("--config.source.image={missing.tif}"), "missing.tif: no such file or folder"),
    (train("--config.source.labels={missing.tif}"), "missing.tif: no such file or folder"),
    (train("--config.target.image={missing.zarr}"), "missing.zarr: no such file or folder"),
    (train("--config.target.labels={missing.tif}"), "--config.target.labels="),  # for scoring alone, and yet before the training
    (train("--config.target.labels={narrow.tif}"), "--config.target.labels: shape 4 x 48 x 40 differs from 4 x 48 x 56"),
    (train("--config.source.labels={narrow.tif}"), "--config.source.labels: shape 4 x 48 x 40 differs from 4 x 48 x 56"),
    (train("--config.source.image={text.txt}"), "text.txt: not a volume that can be read"),
    (train("--config.source.image={empty}"), "a folder without .tif or .png sections"),
    (train("--config.source.image={unlike}"), "scan.tif and scan1.tif are named unlike each other"),
    (train("--config.source.image={empty.tif}"), "empty.tif: cannot be read as TIFF"),
    (train("--config.source.image={cut.tif}"), "cut.tif: cannot be read as TIFF"),
    (train("--config.source.image=phantom://moon/image"), "phantom://moon/image"),
    (train("--config.source.foreground=mitochondria"), "--config.source.foreground='mitochondria'"),
    (train("--config.source.unlabelled=>many"), "--config.source.unlabelled='>many'"),
    (train("--config.sampling.patch_size=64"), "--config.sampling.patch_size=64: must be at most"),
    (train("--config.target.pixel_size_nm=0.004"), "--config.target.pixel_size_nm=0.004: must be from 0.1 to 2000 nm"),
    (train("--config.target_labels.use=joint", "--config.target.labels={labels.tif}",
           "--config.target_labels.boxes=('9:10,:,:',)"), "--config.target_labels.boxes="),
    (train("--config.target_labels.use=joint"), "--config.target.labels is empty"),
    # --- The folder of a training ---
    (("train", CUSTOM, "--workdir={new}\\x", *SMALL, *SOURCE, *TARGET), "without \\"),
    (("train", CUSTOM, "--workdir={full}", *SMALL, *SOURCE, *TARGET), "is not empty and holds no run"),
    (("train", CUSTOM, "--workdir={text.txt}", *SMALL, *SOURCE, *TARGET), "text.txt: must be a folder"),
    (("train", CUSTOM, "--workdir={damaged}", *SMALL, *SOURCE, *TARGET), "not a config of this version of yseg"),
    (("train", CUSTOM, "--workdir={run}", *SMALL, *SOURCE, *TARGET), "holds a run with --config."),
    (("train", CUSTOM, "--workdir=/proc/run", *SMALL, *SOURCE, *TARGET), "/proc/run: cannot be created"),
    # --- Scoring ---
    (("evaluate",), "--workdir is missing"),
    (("evaluate", "--workdir={new}"), "no such folder; must be that of a run"),
    (("evaluate", "--workdir={empty}"), "is not the folder of a run: it has no config.json"),
    (("evaluate", "--workdir={untrained}"), "no complete checkpoint in checkpoints/"),
    (("evaluate", "--workdir={damaged}"), "config.json: not a config of this version of yseg"),
    (("evaluate", "--workdir={newer}"), "has version 99; must be at most"),
    (("evaluate", "--workdir={checkpoints}"), "has no checkpoint that is whole"),
    (("evaluate", RUN, "--model={model}"), "must not be given with --workdir"),
    (("evaluate", "--model={run}"), "must be a folder written by launch.export, with model.json"),
    (("evaluate", "--model={model}"), "--image is missing"),
    (("evaluate", "--model={model}", "--image={image.tif}"), "--pixel_size_nm is missing"),
    (("evaluate", "--model={model}", "--data_dir={empty}", "--image={image.tif}", "--pixel_size_nm=16"),
     "--data_dir: must come with --workdir"),
    (("evaluate", "--model={weights}"), "weights.npz is damaged: its sha256 must be"),
    (("evaluate", RUN, "--image={image.tif}", "--pixel_size_nm=16"), "--labels is missing"),
    (("evaluate", RUN, "--labels={labels.tif}"), "must come with --image"),
    (("evaluate", RUN, "--unlabelled=>1"), "--unlabelled=>1: must come with --image"),
    (("evaluate", *TO_SEGMENT, "--labels={labels.tif}", "--unlabelled=many"), "--unlabelled='many'"),
    (("evaluate", *TO_SEGMENT, "--labels={labels.tif}", "--foreground=most"), "--foreground='most'"),
    (("evaluate", *TO_SEGMENT, "--labels={narrow.tif}"), "--labels: shape 4 x 48 x 40 differs"),
    (("evaluate", RUN, "--region=0:9,:,:"), "--region=0:9,:,:"),
    (("evaluate", RUN, "--threshold=1.5"), "--threshold=1.5: must be a number from 0 to 1, or matched"),
    (("evaluate", RUN, "--domain=source", "--threshold=matched"), "--threshold=matched: must be a number with --domain=source"),
    (("evaluate", RUN, "--batch_statistics=both"), "--batch_statistics=both"),
    (("evaluate", RUN, "--adapted"), "must be a run of self-training"),
    (("evaluate", RUN, "--data_dir={empty}"), "must be a folder with the volumes of the run"),
    (("evaluate", RUN, "--target_image={missing.tif}"), "missing.tif: no such file or folder"),
    # --- Segmenting and exporting ---
    (("segment", RUN, "--output={new}.zarr"), "--image is missing"),
    (("segment", *TO_SEGMENT), "--output is missing"),
    (("segment", RUN, "--image={image.tif}", "--output={new}.zarr"), "--pixel_size_nm is missing"),
    (("segment", *TO_SEGMENT, "--pixel_size_nm=0", "--output={new}.zarr"), "--pixel_size_nm=0.0: must be above 0"),
    (("segment", *TO_SEGMENT, "--pixel_size_nm=1e9", "--output={new}.zarr"), "--pixel_size_nm=1e+09: must be from 0.1 to 2000"),
    (("segment", *TO_SEGMENT, "--region=0:1", "--output={new}.zarr"), "--region=0:1"),
    (("segment", *TO_SEGMENT, "--least_nm=50", "--output={new}.zarr"), "--least_nm=50: must come with --what=instances"),
    (("segment", *TO_SEGMENT, "--noseparate", "--output={new}.zarr"), "--noseparate: must come with --what=instances"),
    (("segment", *TO_SEGMENT, "--what=instances", "--least_nm=-1", "--output={new}.zarr"), "--least_nm=-1: must be at least 0"),
    (("segment", *TO_SEGMENT, "--region=2:2,:,:", "--output={new}.zarr"), "--region=2:2,:,:"),
    (("segment", *TO_SEGMENT, "--output={text.txt}"), "--output="),
    (("segment", *TO_SEGMENT, "--output={folder.zarr}"), "--output="),
    (("segment", *TO_SEGMENT, "--output={new}\\x.zarr"), "without \\"),
    (("segment", RUN, "--image={missing.tif}", "--pixel_size_nm=16", "--output={new}.zarr"), "missing.tif: no such file"),
    (("export", RUN), "--output is missing"),
    (("export", RUN, "--output={model}"), "exists; must be another folder, or give --overwrite"),
    (("export", RUN, "--output={full}", "--overwrite"), "exists and is no exported model"),
    (("export", RUN, "--output={new}", "--format=keras"), "--format=keras: "),
    (("export", RUN, "--output={model}", "--format=bioimageio", "--overwrite"), "exists and is no package of bioimage.io"),
    (("export", RUN, "--output={new}", "--threshold=high"), "--threshold=high: must be a number from 0 to 1"),
    # --- What goes on from a run ---
    (("finetune", "--from={run}", "--workdir={new}"), "--fraction is missing"),
    (("finetune", "--from={run}", "--workdir={new}", "--fraction=1.5"), "--fraction=1.5: must be"),
    (("finetune", "--from={run}", "--workdir={new}", "--folds=1"), "--folds=1: must be"),
    (("finetune", "--from={run}", "--workdir={new}", "--folds=99"), "--folds=99: must be at least 2 and at most"),
    (("finetune", "--from={empty}", "--workdir={new}", "--fraction=0.5"), "--from="),
    (("finetune", "--from={untrained}", "--workdir={new}", "--fraction=0.5"), "no complete checkpoint"),
    (("adapt", "--from={run}"), "--workdir is missing"),
    (("adapt", "--from={run}", "--workdir={new}", "--steps=0"), "--steps=0: must be"),
    (("adapt", "--from={damaged}", "--workdir={new}"), "config.json: not a config of this version of yseg"),
    (("adapt", "--from={checkpoints}", "--workdir={new}"), "has no checkpoint that is whole"),
    (("sweep", CUSTOM, *SMALL, *SOURCE, *TARGET, "--out={new}"), "--config.method=ft: must be a method with a weight"),
    (("sweep", CUSTOM, "--out={new}", "--weights=-1"), "--weights=-1: must be numbers of at least 0"),
    (("reproduce", "--config=configs/custom.py:ft", "--out={new}"), "must be FILE.py without a method"),
    (("reproduce", "--config=configs/custom.py", "--out={new}", "--experiment=table9"), "--experiment=table9"),
    # --- A first look ---
    (("check", "--output={new}"), "--config is missing: must be FILE.py:METHOD"),
    (("check", CUSTOM, *SMALL, *SOURCE, *TARGET, "--output={full}"), "is not empty and holds no check.json"),
    (("check", CUSTOM, *SMALL, *SOURCE, *TARGET, "--output={text.txt}"), "text.txt: must be a folder"),
    (("check", CUSTOM, *SMALL, *SOURCE, *TARGET, "--output={new}", "--workdir={full}"), "is not empty and holds no run"),
    (("check", CUSTOM, *SMALL, *SOURCE, *TARGET, "--output={new}", "--config.source.labels={narrow.tif}"), "differs from 4 x 48"),
    (("check", CUSTOM, *SMALL, *SOURCE, *TARGET, "--output={new}", "--config.target.labels={narrow.tif}"), "differs from 4 x 48"),
    (("check", CUSTOM, *SMALL, *SOURCE, *TARGET, "--output={new}", "--config.source.foreground=>9"), "finds no foreground"),
    (("check", CUSTOM, *SMALL, *SOURCE, *TARGET, "--output={new}", "--seeds=1,1"), "--seeds=1,1: must differ"),
    (("check", CUSTOM, *SMALL, *SOURCE, *TARGET, "--output={new}", "--process=1"), "--process=1: must come with --multihost"),
    (("check", CUSTOM, "--config.sampling.patch_size=64", *SOURCE, *TARGET, "--output={new}"), "patch_size=64: must be at most"),
    (("demo", "--config=configs/demo.py:ft", "--workdir={new}"), "--config.method=ft: must be self_training"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with good and bad files, all small, beside two runs, one of them damaged."""
    folder = tmp_path_factory.mktemp("inputs")
    values = np.random.default_rng(0).integers(0, 255, (4, 48, 56), np.uint8)
    for name, array in {"image": values, "labels": (values > 128).astype(np.uint8), "narrow": values[..., :40]}.items():
        tifffile.imwrite(folder / f"{name}.tif", array, photometric="minisblack")
    whole = (folder / "image.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[:len(whole) // 2])
    (folder / "empty.tif").touch()
    (folder / "text.txt").write_text("neither a volume nor a config\n")
    for name in ("empty", "unlike", "full", "folder.zarr", "untrained", "damaged", "newer"):
        (folder / name).mkdir()
    (folder / "full" / "thesis.tex").touch()
    for name in ("scan", "scan1"):
        (folder / "unlike" / f"{name}.tif").touch()
    (folder / "folder.zarr" / "thesis.tex").touch()
    config = experiment(optimizer=Optimizer(steps=0))
    yseg.train(config, folder / "run", quiet=True)
    yseg.export(folder / "run", folder / "model")
    (folder / "untrained" / "config.json").write_text(to_json(resolve(config)))
    (folder / "damaged" / "config.json").write_text("{")
    (folder / "newer" / "config.json").write_text(json.dumps({**json.loads(to_json(config)), "version": 99}))
    shutil.copytree(folder / "run", folder / "checkpoints")
    for file in (folder / "checkpoints" / "checkpoints").rglob("manifest.ocdbt"):
        file.unlink()
    shutil.copytree(folder / "model", folder / "weights")
    (folder / "weights" / "weights.npz").write_bytes(b"")
    return folder


def contents(folder):
    """Size and time of every file below a folder."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize(("flags", "said"), ROWS, ids=[f"{flags[0]}: {said}"[:60] for flags, said in ROWS])
def test_bad_input_gets_one_line_and_exit_code_2_and_nothing_is_written(flags, said, inputs, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    before = contents(inputs)
    names = sorted((path.name for path in inputs.iterdir()), key=len, reverse=True)
    paths = {name: str(inputs / name) for name in (*names, "missing.tif", "missing.zarr", "new")}
    arguments = [*flags]
    for name, path in paths.items():
        arguments = [argument.replace(f"{{{name}}}", path) for argument in arguments]
    module = importlib.import_module(f"launch.{arguments[0]}")
    with pytest.raises(SystemExit) as stop:
        program.run(module.PROGRAM, arguments)
    shown = capsys.readouterr()
    assert said in shown.err
    assert (stop.value.code, shown.err.count("\n"), shown.out) == (program.BAD_INPUT, 1, "")
    assert contents(inputs) == before


def test_there_are_many_rows_of_every_program():
    assert len(ROWS) == len({flags for flags, _ in ROWS}) >= 80
    assert {flags[0] for flags, _ in ROWS} == {"train", "evaluate", "segment", "export", "finetune", "adapt", "sweep",
                                               "reproduce", "demo", "check"}
