"""The demo, on tiny volumes."""

import os

import numpy as np
from tiny import domain, experiment

import yseg
from launch import demo, program
from yseg.config import Optimizer, SelfTraining


def test_the_demo_scores_segments_and_draws_both_networks_and_an_oracle(tmp_path, capsys):
    config = experiment(method="self_training", target=domain("target", test_fraction=0.3), optimizer=Optimizer(steps=2),
                        self_training=SelfTraining(steps=2, renew_every=1))
    values = program.parse(demo.PROGRAM, ["demo", "--config=configs/demo.py", f"--workdir={tmp_path}", "--oracle_steps=1"])
    values["config"].value = config
    demo.main(values)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [str(tmp_path / "demo.png"), str(tmp_path / "adapted.zarr")]
    for name in ("source only", "adapted", "oracle"):
        assert any(line.startswith(f"| {name} ") for line in lines)
    assert os.path.getsize(tmp_path / "demo.png") > 10_000
    before, after = (yseg.open_volume(str(tmp_path / name)).read().result() for name in ("source_only.zarr", "adapted.zarr"))
    assert before.shape == after.shape == yseg.open_volume(config.target.image).shape
    assert set(np.unique(before)) | set(np.unique(after)) <= {0, 1}
    oracle = yseg.load_run(tmp_path / "oracle")
    assert (oracle.step, oracle.config.target_labels.use, oracle.config.target_labels.fraction) == (1, "only", 1.0)
