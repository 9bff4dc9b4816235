"""A method of one's own is one new file and one line that lists it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import yseg

CENTROID = '''"""`centroid`: the distance of the domains' mean features, in a projection that is learnt with them."""

import jax
import jax.numpy as jnp

from yseg import parallel
from yseg.methods.method import Method
from yseg.methods.parts import apply_to_both, dropout_keys, segmentation_term

SIZE = 4  # of the projection


def parameters(key, model, adaptation):
    """{"projection": {"kernel"}}: from the bottleneck's feature maps to SIZE numbers."""
    features = model.features * 2**model.levels
    return {"projection": {"kernel": jax.random.normal(key, (features, SIZE)) / jnp.sqrt(features)}}


def loss(variables, batch, key, *, progress, context):
    """Segmentation plus the weight times the squared distance of both domains' mean projected features."""
    keys = dropout_keys(key, batch)
    source, target, statistics = apply_to_both(context, variables, variables["batch_stats"], "encode",
                                               inputs=(batch.labelled, batch.target), keys=keys)
    segmentation, statistics = segmentation_term(context, variables, statistics, activations=source, labels=batch.labels,
                                                 keys=keys[0])
    kernel = variables["params"]["projection"]["kernel"]
    means = [parallel.gather(jnp.mean(activations[-1], axis=(1, 2)) @ kernel, context.axis_name).mean(axis=0)
             for activations in (source, target)]
    adaptation = context.adaptation.weight * jnp.sum((means[0] - means[1]) ** 2)
    return segmentation + adaptation, ({"segmentation": segmentation, "adaptation": adaptation}, statistics)


METHOD = Method("centroid", "centroids", loss, weights={"weight": 0.5}, parameters=parameters)
'''

PROGRAM = '''
import json
from pathlib import Path

import jax

import yseg
from launch import program, train
from yseg.config import (
    Domain, Experiment, Inference, InputError, Model, Optimizer, Record, Sampling, no_augmentation)
from yseg.methods import METHODS, images_per_step
from yseg.runs.folder import load_state, read_config
from yseg.runs.session import compiled_step, prepare, run
from yseg.training.recorder import read_metrics


def domain(name, **fields):
    image, labels = (f"phantom://{name}/{content}?shape=3,64,96&seed=2" for content in ("image", "labels"))
    return Domain(image=image, labels=labels, **fields)


def experiment(method):
    return Experiment(
        method=method, source=domain("source", validation_fraction=0.3), target=domain("target", test_fraction=0.3),
        sampling=Sampling(patch_size=16, batch_size=2), augmentation=no_augmentation(), model=Model(levels=1, features=4),
        optimizer=Optimizer(steps=3, warmup_steps=1), inference=Inference(tile_size=64, overlap=4),
        record=Record(log_every=1, validate_every=0, images=0))


def refusal():
    try:
        yseg.resolve(experiment("unet"))
    except InputError as error:
        return str(error)


training = prepare(experiment("centroid"), Path("run"))
run([training], lambda _: compiled_step(training.config, training.devices), quiet=True)
changes = jax.tree.map(lambda one, other: float(abs(one - other).max()), training.start.params,
                       load_state("run", training.config).params)
flags = program.parse(train.PROGRAM, ["train", "--config=configs/demo.py:centroid", "--workdir=unused"])
print(json.dumps({
    "package": yseg.__file__, "methods": list(METHODS), "title": METHODS["centroid"].title, "changes": changes,
    "weight": read_config("run").adaptation.weight, "images": images_per_step(training.config), "rows": read_metrics("run"),
    "refusal": refusal(), "scores": yseg.evaluate("run", quiet=True), "of_the_command_line": flags.config.method}))
'''


@pytest.mark.slow
def test_a_method_is_one_new_file_and_one_line(tmp_path):
    checkout = Path(yseg.__file__).parents[1]
    for folder in ("yseg", "launch", "configs"):
        shutil.copytree(checkout / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "yseg" / "methods" / "centroid.py").write_text(CENTROID)
    config = tmp_path / "yseg" / "config.py"
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    (number,) = (number for number, line in enumerate(lines) if line.startswith("METHODS = ("))
    lines[number] = lines[number].replace('"ynet", ', '"ynet", "centroid", ')
    config.write_text("".join(lines), encoding="utf-8")

    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["package"]).is_relative_to(tmp_path)
    assert found["methods"] == ["ft", "mmd", "coral", "dann", "ynet", "centroid", "self_training"]
    assert found["title"] == "centroids"
    assert set(found["changes"]) == {"network", "projection"}
    assert found["changes"]["projection"]["kernel"] > 1e-6
    assert found["weight"] == 0.5
    assert found["images"] == 4  # of two domains
    assert [row["step"] for row in found["rows"]] == [1, 2, 3]
    for row in found["rows"]:
        assert row["adaptation"] > 0
        assert row["loss"] == pytest.approx(row["segmentation"] + row["adaptation"], rel=1e-5)
    assert "must be one of ft, mmd, coral, dann, ynet, centroid, self_training" in found["refusal"]
    assert found["scores"]["method"] == "centroid"
    assert found["of_the_command_line"] == "centroid"
