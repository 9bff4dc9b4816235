"""Trackers: the same numbers as metrics.jsonl, one run at the service however often it goes on, and no failure for its sake."""

import dataclasses
import json
import struct
from pathlib import Path

import pytest
from tiny import experiment

import yseg
from yseg.config import InputError, Optimizer
from yseg.runs.resolve import resolve
from yseg.training import trackers
from yseg.training.recorder import Recorder, read_metrics
from yseg.training.trackers import TRACKED, TRACKERS, check_tracker, open_tracker


class Kept:
    """A service in memory."""

    def __init__(self, fails=False):
        self.steps, self.pictures, self.whole, self._fails = [], None, None, fails

    def log(self, step, numbers):
        if self._fails:
            raise ConnectionError("gone")
        self.steps.append((step, numbers))

    def finish(self, pictures, whole):
        self.pictures, self.whole = [path.name for path in pictures], whole


def test_a_recorder_tells_what_it_writes_and_the_pictures_that_there_are_in_the_end(tmp_path):
    kept = Kept()
    with Recorder(tmp_path, 0, tracker=kept, pictures=tmp_path / "report") as recorder:
        recorder.write({"step": 2, "loss": 0.5, "validation_iou": None})
        (tmp_path / "report").mkdir()
        for name in ("panels.png", ".panels.png.unfinished.png", "report.html"):
            (tmp_path / "report" / name).touch()
    assert kept.steps == [(2, {"loss": 0.5})]
    assert (kept.pictures, kept.whole) == (["panels.png"], True)


def test_a_training_that_fails_is_told_as_not_whole(tmp_path):
    kept = Kept()
    with pytest.raises(KeyboardInterrupt), Recorder(tmp_path, 0, tracker=kept):
        raise KeyboardInterrupt
    assert kept.whole is False


def test_a_service_that_fails_is_left_alone_after_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(TRACKERS, "mlflow", lambda known, workdir, config: (Kept(fails=True), "id"))
    with Recorder(tmp_path, 0, tracker=open_tracker("mlflow", tmp_path, resolve(experiment()))) as recorder:
        for step in (1, 2, 3):
            recorder.write({"step": step, "loss": 1.0})
    assert len(read_metrics(tmp_path)) == 3
    assert capsys.readouterr().err == "--tracker=mlflow: failed, and is told no more (gone)\n"


def test_a_run_goes_on_as_the_one_that_its_folder_names(tmp_path, monkeypatch):
    asked = []

    def begin(known, workdir, config):
        asked.append(known)
        return Kept(), known or f"new{len(asked)}"

    monkeypatch.setitem(TRACKERS, "mlflow", begin)
    monkeypatch.setitem(TRACKERS, "wandb", begin)
    for name in ("mlflow", "wandb", "mlflow"):
        open_tracker(name, tmp_path, resolve(experiment()))
    assert asked == [None, None, "new1"]
    assert json.loads((tmp_path / TRACKED).read_text()) == {"mlflow": "new1", "wandb": "new2"}


def test_a_service_that_cannot_be_used_is_told_and_nothing_ends(tmp_path, monkeypatch, capsys):
    def refuse(known, workdir, config):
        raise ConnectionError("no\nservice")

    monkeypatch.setitem(TRACKERS, "mlflow", refuse)
    (tmp_path / TRACKED).write_text("{")
    assert open_tracker("mlflow", tmp_path, resolve(experiment())) is None
    assert capsys.readouterr().err == "--tracker=mlflow: cannot be used, and is told nothing (no service)\n"


def test_a_name_of_no_service_is_an_input_error():
    with pytest.raises(InputError, match="--tracker=paper: must be one of mlflow, wandb"):
        check_tracker("paper")
    check_tracker("")


def test_a_missing_package_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'--tracker=wandb: needs wandb: pip install "\.\[wandb\]" in the folder of yseg'):
        yseg.train(experiment(), tmp_path / "run", quiet=True, tracker="wandb")
    assert not (tmp_path / "run").exists()


# --- The services themselves, where they are installed ---


def trained_twice(folder, tracker):
    """A run of four steps, and the same with eight: it goes on."""
    config = experiment(record=dataclasses.replace(experiment().record, log_every=1, images=1))
    yseg.train(config, folder, quiet=True, tracker=tracker)
    longer = dataclasses.replace(config, optimizer=Optimizer(steps=8, warmup_steps=1))
    yseg.train(longer, folder, quiet=True, more_steps=True, tracker=tracker)
    return read_metrics(folder)


@pytest.mark.slow
def test_mlflow_has_the_numbers_the_config_and_the_pictures_of_one_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs mlflow-skinny, which is not among the tested packages as it is heavy")
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/store")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    rows = trained_twice(tmp_path / "run", "mlflow")
    client = MlflowClient()
    experiments = [each for each in client.search_experiments() if each.name == "yseg"]
    run, = client.search_runs([experiments[0].experiment_id])
    assert run.info.run_id == json.loads((tmp_path / "run" / TRACKED).read_text())["mlflow"]
    history = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "loss")}
    assert history == {row["step"]: row["loss"] for row in rows}
    assert len(history) == 8
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 8
    assert run.data.params["optimizer.learning_rate"] == "0.001"
    assert run.info.status == "FINISHED"
    assert "panels.png" in {each.path for each in client.list_artifacts(run.info.run_id)}


def records_of(path):
    """The records in a file of Weights & Biases, a log as LevelDB's: blocks of 32 KiB of (checksum, size, kind, bytes)."""
    content, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if -place % 2**15 < 7:  # no header fits into what is left of the block
            place += -place % 2**15
            continue
        size, kind = struct.unpack("<HB", content[place + 4:place + 7])
        whole += content[place + 7:place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # all of it, or its last part
            yield whole
            whole = b""


@pytest.mark.slow
def test_weights_and_biases_has_the_numbers_of_one_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb, which is not among the tested packages as it is heavy")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    rows = trained_twice(tmp_path / "run", "wandb")
    found, ids, pictures = {}, set(), set()
    for path in sorted(Path(tmp_path, "run", "wandb").glob("offline-run-*/run-*.wandb")):
        for data in records_of(path):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.WhichOneof("record_type") == "run":
                ids.add(record.run.run_id)
            if record.WhichOneof("record_type") == "history":
                items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
                pictures |= {name for name in items if name.startswith("panels")}
                if "loss" in items:
                    found[items["_step"]] = items["loss"]
    assert ids == {json.loads((tmp_path / "run" / TRACKED).read_text())["wandb"]}
    assert found == {row["step"]: row["loss"] for row in rows}
    assert len(found) == 8
    assert pictures
