"""Every file under configs/, with every method: it is valid, and it trains."""

import dataclasses
import functools
import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import domain

from launch import program, train
from yseg.config import METHODS, Inference, InputError, Record, Sampling, check
from yseg.config_json import from_json, to_json
from yseg.methods import METHODS as RECORDS
from yseg.runs.resolve import resolve
from yseg.training.state import create_state
from yseg.training.step import make_step
from yseg.volumes.catalog import DATASETS
from yseg.volumes.phantom import phantom

CONFIGS = sorted(Path(__file__).parents[1].joinpath("configs").glob("*.py"))
every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
every_method = pytest.mark.parametrize("method", METHODS)
# A program that runs once need not be optimised.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def load(path, method, *overrides):
    """The config as launch.train gets it."""
    return program.parse(train.PROGRAM, ["train", f"--config={path}:{method}", "--workdir=unused", *overrides]).config


def tiny(config):
    """The config's method, loss, augmentation and optimiser, with a tiny network, and nothing that a step does not depend on."""
    return resolve(dataclasses.replace(
        config, name="", data_dir="", source=domain("source"), target=domain("target"),
        sampling=Sampling(patch_size=16, batch_size=2), model=dataclasses.replace(config.model, levels=2, features=4),
        adaptation=dataclasses.replace(config.adaptation, level_weights=()),
        optimizer=dataclasses.replace(config.optimizer, steps=1, warmup_steps=0), record=Record(), inference=Inference()))


@functools.cache
def first_step(text):
    """Loss and the largest change of a parameter in the first step on the phantom; configs that are alike when tiny share it."""
    config = from_json(text)
    raw = {"index": jnp.arange(2)}
    method = RECORDS[config.method]
    for name in ("labelled", "target") if method.sees_target else ("labelled",):
        # A part with foreground, without which overlaps have no gradient.
        image, labels = (volume[:, :16, 8:24] for volume in phantom("target" if name == "target" else "source", (2, 64, 64)))
        raw[name] = jnp.asarray(image[..., None])
        raw[f"{name}_statistics"] = jnp.array([image.mean(), image.std()], jnp.float32)
        if name == "labelled":
            raw["labels"] = jnp.asarray(labels, jnp.int32)
    state = create_state(config, jax.random.key(0))
    step = jax.jit(make_step(config, method.network(config.model)), compiler_options=QUICK)
    after, metrics = step(state, raw, jax.random.key(1))
    changes = jax.tree.map(lambda before, after: np.abs(np.asarray(before) - np.asarray(after)).max(), state.params, after.params)
    return float(metrics["loss"]), float(max(jax.tree.leaves(changes)))


def test_there_are_configs():
    assert {"custom", "demo", "epfl_to_hela", "epfl_to_vnc", "paper", "vnc_to_epfl"} <= {path.stem for path in CONFIGS}


@every_method
@every_config
def test_every_method_of_every_config_is_valid(path, method):
    config = load(path, method)
    check(config)
    assert config.method == method
    assert from_json(to_json(config)) == config
    assert {config.source.dataset, config.target.dataset} - {""} <= set(DATASETS)


@pytest.mark.slow
@every_config
def test_every_config_takes_a_step(path):
    loss, change = first_step(to_json(tiny(load(path, "ynet"))))
    assert math.isfinite(loss)
    assert 0 < change < math.inf


@every_config
def test_methods_share_all_but_what_adapts_them(path):
    """An honest comparison: the same data, network, augmentation, optimiser and budget for each."""
    configs = [dataclasses.asdict(load(path, method)) for method in METHODS]
    for first, second in itertools.pairwise(configs):
        assert {name for name in first if first[name] != second[name]} <= {"name", "method", "adaptation"}


@every_config
def test_a_method_can_be_left_out(path):
    assert program.parse(train.PROGRAM, ["train", f"--config={path}", "--workdir=unused"]).config.method in METHODS


@every_config
def test_an_unknown_method_is_named(path):
    with pytest.raises(InputError, match=r"'unet'.*ft, mmd, coral, dann, ynet, self_training"):
        load(path, "unet")


@every_config
def test_the_docstring_says_where_it_comes_from_and_how_to_run_it(path):
    text = path.read_text()
    assert "ISBI 2019" in text
    assert f"--config=configs/{path.name}:" in text
    assert "Cost: " in text


def test_the_data_folder_comes_from_the_environment_unless_it_is_given(monkeypatch):
    path = next(path for path in CONFIGS if path.stem == "epfl_to_vnc")
    monkeypatch.setenv("YSEG_DATA", "here")
    assert load(path, "ft").data_dir == "here"
    assert load(path, "ft", "--config.data_dir=there").data_dir == "there"
    monkeypatch.delenv("YSEG_DATA")
    assert load(path, "ft").data_dir == ""
