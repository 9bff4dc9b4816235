"""The record of a training."""

import json
import struct

import matplotlib.image
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from yseg.training.recorder import METRICS, Recorder, read_metrics


def test_lines_beyond_the_checkpoint_and_torn_lines_are_dropped_when_a_run_goes_on(tmp_path):
    lines = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (2, 4, 6)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"step": 7, "lo')
    with Recorder(tmp_path, step=4) as recorder:
        assert [row["step"] for row in read_metrics(tmp_path)] == [2, 4]
        recorder.write({"step": 5, "loss": None})
    assert read_metrics(tmp_path)[-1] == {"step": 5, "loss": None}
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 3


@pytest.mark.parametrize("damage", [b'{"step": 3, "lo', b"\xff\xfe\n", b"5\n", b'{"loss": 1}\n', b"\0\0\0\0"])
def test_a_record_ends_where_it_is_damaged(damage, tmp_path):
    (tmp_path / METRICS).write_bytes(b'{"step": 1}\n{"step": 2}\n' + damage + b'{"step": 4}\n')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]


def events_of(path):
    """The events in a file of TensorBoard, which is a list of (size, checksum, event, checksum)."""
    content, found = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        found.append(event_pb2.Event.FromString(content[12:12 + size]))
        content = content[16 + size:]
    return found


def test_tensorboard_is_told_the_same_and_what_to_drop(tmp_path):
    matplotlib.image.imsave(tmp_path / "a.png", np.zeros((4, 6, 3)))
    with Recorder(tmp_path, step=2) as recorder:
        recorder.write({"step": 4, "loss": 0.5, "validation_iou": None})
        recorder.write_picture("panels", tmp_path / "a.png", 4)
        (path,) = tmp_path.glob("events.out.tfevents.*")
        assert len(events_of(path)) >= 3  # at once
    first, start, scalar, picture = events_of(path)
    assert first.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (3, event_pb2.SessionLog.START)
    assert (scalar.step, [(value.tag, value.simple_value) for value in scalar.summary.value]) == (4, [("loss", 0.5)])
    (value,) = picture.summary.value
    assert (picture.step, value.tag, value.image.height, value.image.width) == (4, "panels", 4, 6)
