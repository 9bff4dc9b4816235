"""The record of a training."""

import json

from yseg.training.recorder import Recorder, read_metrics


def test_lines_beyond_the_checkpoint_and_torn_lines_are_dropped_when_a_run_goes_on(tmp_path):
    lines = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (2, 4, 6)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"step": 7, "lo')
    with Recorder(tmp_path, step=4) as recorder:
        assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4]
        recorder.write({"step": 5, "loss": None})
    assert read_metrics(tmp_path)[-1] == {"step": 5, "loss": None}
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 3
