"""The demo, on tiny volumes."""

import os
from pathlib import Path

import numpy as np
import pytest
from tiny import domain, experiment

import yseg
from launch import demo, program
from yseg.config import Optimizer, SelfTraining

CONFIG = Path(__file__).parents[2] / "configs" / "demo.py"


def test_the_demo_scores_segments_and_draws_both_networks_and_an_oracle(tmp_path, capsys):
    config = experiment(method="self_training", target=domain("target", test_fraction=0.3), optimizer=Optimizer(steps=2),
                        self_training=SelfTraining(steps=2, renew_every=1))
    values = program.parse(demo.PROGRAM, ["demo", f"--config={CONFIG}", f"--workdir={tmp_path}", "--oracle_steps=1"])
    values["config"].value = config
    demo.main(values)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [str(tmp_path / "demo.png"), str(tmp_path / "adapted.zarr")]
    for name in ("source only", "adapted", "oracle"):
        assert any(line.startswith(f"| {name} ") for line in lines)
    assert os.path.getsize(tmp_path / "demo.png") > 10_000
    image = yseg.open_volume(config.target.image).read().result()
    for name, choice in (("source_only", False), ("adapted", True)):
        network = yseg.load_run(tmp_path / "adapted", choice)
        expected = yseg.segment(network, config.target.image, tmp_path / f"again_{name}.zarr", quiet=True)
        found = yseg.open_volume(str(tmp_path / f"{name}.zarr" / "0")).read().result()
        assert found.shape == image.shape
        np.testing.assert_array_equal(found, yseg.open_volume(f"{expected}/0").read().result())
    oracle = yseg.load_run(tmp_path / "oracle")
    assert (oracle.step, oracle.config.target_labels.use, oracle.config.target_labels.fraction) == (1, "only", 1.0)


@pytest.mark.parametrize(("method", "given", "told"), [
    (":ft", [], r"--config\.method=ft: must be self_training"),
    ("", ["--config.target.labels="], r"target\.labels and target\.test_fraction must be given"),
    ("", ["--config.target.labels=", "--config.target.dataset=vnc"], r"target\.labels and target\.test_fraction must be given"),
    ("", ["--config.target.test_fraction=0"], r"target\.labels and target\.test_fraction must be given")])
def test_what_cannot_be_shown_is_refused_before_anything_is_trained(method, given, told, tmp_path):
    values = program.parse(demo.PROGRAM, ["demo", f"--config={CONFIG}{method}", f"--workdir={tmp_path / 'demo'}", *given])
    with pytest.raises(yseg.InputError, match=told):
        demo.main(values)
    assert not (tmp_path / "demo").exists()
