"""A self-training whose two processes share the pseudo-labels: what one process makes."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import yseg
from yseg.runs.choice import CHOICE
from yseg.runs.renewal import PROBABILITIES, PSEUDO_LABELS
from yseg.volumes.volume import open_volume

ROOT = Path(__file__).parents[1]
STEPS = 4

# SGD, as Adam hides a wrong factor.
CONFIG = f"""
import sys
sys.path.append({str(ROOT / "tests")!r})
from tiny import experiment
from yseg.config import Optimizer, Record, SelfTraining

def get_config(method):
    return experiment(method=method, self_training=SelfTraining(steps={STEPS}, renew_every=2),
                      optimizer=Optimizer(name="sgd", steps={STEPS}, warmup_steps=1, learning_rate=0.02),
                      record=Record(log_every=1, validate_every=0, checkpoint_every=2, images=0))
"""


def train(folder, *more):
    return subprocess.Popen([sys.executable, "-m", "launch.train", f"--config={folder}/tiny_sgd.py:self_training", *more],
                            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.mark.slow
def test_two_processes_teach_themselves_what_one_does(tmp_path):
    (tmp_path / "tiny_sgd.py").write_text(CONFIG)
    job = [f"--workdir={tmp_path / 'two'}", "--multihost", f"--coordinator=127.0.0.1:{free_port()}", "--processes=2"]
    started = [train(tmp_path, *job, f"--process={number}") for number in range(2)]
    for process in started:
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
    one = train(tmp_path, f"--workdir={tmp_path / 'one'}")
    said = one.communicate(timeout=300)[1]
    assert one.returncode == 0, said
    for step in range(0, STEPS, 2):
        found, expected = (open_volume(str(tmp_path / name / PSEUDO_LABELS / str(step) / PROBABILITIES)).read().result()
                           for name in ("two", "one"))
        np.testing.assert_allclose(found, expected, atol=2e-3)  # they are float16
        assert found.std() > 0
    choices = [json.loads((tmp_path / name / CHOICE).read_text()) for name in ("two", "one")]
    assert choices[0]["use"] == choices[1]["use"]
    np.testing.assert_allclose(choices[0]["adapted"]["share"], choices[1]["adapted"]["share"], atol=0.02)
    assert yseg.load_run(tmp_path / "two").step == STEPS
