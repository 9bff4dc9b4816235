"""What the benchmarks rest on: sides timed apart, operations counted right, a reference that computes the same."""

import importlib
import subprocess
import sys
import time

import jax
import pytest

from tests.benchmarks import loop, ours, population, result
from tests.benchmarks.setting import Size, experiment
from tests.benchmarks.startup import ROOT
from tests.benchmarks.timing import compare, ratio, row
from yseg import parallel
from yseg.data import augment
from yseg.runs import session

TINY = Size(features=4, levels=1, patch=16, batch=2)


def sleeper(seconds):
    return lambda: time.sleep(seconds), {"seconds": seconds}


def failing():
    raise ValueError("no such side")


@pytest.mark.slow
def test_sides_are_timed_as_often_as_asked_and_tell_their_facts():
    seconds, facts = compare({"short": (sleeper, 0.01), "long": (sleeper, 0.05)}, 3)
    assert {name: len(values) for name, values in seconds.items()} == {"short": 3, "long": 3}
    assert facts == {"short": {"seconds": 0.01}, "long": {"seconds": 0.05}}
    assert all(value >= 0.05 for value in seconds["long"])


@pytest.mark.slow
def test_a_side_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no such side"):
        compare({"failing": (failing,)}, 3)


def test_ratio_is_that_of_the_medians_and_no_outlier_moves_it():
    assert ratio([1.0, 1.0, 9.0], [2.0, 2.0, 2.0])[0] == 0.5
    assert row("suite", "what", [0.3, 0.3, 0.3], [0.2, 0.2, 0.2], 1.0, "other", units=3)["ours, ms"] == pytest.approx(100)


@pytest.mark.slow
def test_members_of_one_step_are_timed_against_as_many_single_steps():
    found, = population.at_once(3, TINY, members=2)
    assert found["ratio"] > 0
    assert found["what"].startswith("2 networks in one step")


def test_a_loop_of_several_steps_in_one_call_makes_those_calls(tmp_path, monkeypatch):
    calls, map_steps = [], parallel.map_steps

    def counted(*args):
        steps = map_steps(*args)
        return lambda *given: (calls.append(args[2]), steps(*given))[1]

    monkeypatch.setattr(parallel, "map_steps", counted)
    monkeypatch.setattr(loop, "SHAPE", (2, 256, 256))
    run, _ = loop.build_fit(experiment(TINY, steps=4), "resident", loop.write_volumes(tmp_path, ("labelled",)), at_once=2)
    run()
    assert calls == [2, 2]


def test_operations_of_a_step_are_those_of_its_convolutions():
    size = Size(features=32, levels=1, patch=64, batch=2)
    step, state, raw = ours.step_of(experiment(size, batch=2 * size.batch), counts=True)
    counted = step.lower(state, raw, jax.random.key(0)).cost_analysis()["flops"]
    maps, sides = ([first * 2**(sign * level) for level in range(size.levels + 1)]
                   for first, sign in ((size.features, 1), (size.patch, -1)))
    products = maps[0] * sides[0] ** 2  # of one image; output
    for level, (here, side) in enumerate(zip(maps, sides, strict=True)):
        window = (3 * side - 2) ** 2  # pixels under a 3x3 kernel, without those beyond the border
        products += window * here * (here + (maps[level - 1] if level else 1))
        if level < size.levels:
            products += window * here * (2 * here + here) + 4 * sides[level + 1] ** 2 * maps[level + 1] * here
    # A multiplication and an addition, forward and for both gradients; the image itself has no gradient.
    least = 2 * size.batch * (3 * 2 * products - 2 * 9 * sides[0] ** 2 * maps[0])
    assert least < counted < 1.05 * least


def test_pytorch_computes_the_same():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.benchmarks import reference

    reference.check(ours.check_values(experiment(TINY)))


def test_pytorch_with_other_weights_is_found_out():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.benchmarks import reference

    values = ours.check_values(experiment(TINY))
    kernel = values["variables"]["params"]["encoder"]["level_1"]["Conv_0"]["kernel"]
    kernel[...] = kernel[::-1]
    with pytest.raises(AssertionError):
        reference.check(values)


def test_the_program_of_pytorch_trains_as_ours_does():
    """Its constants are its own, as it must not import JAX."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = importlib.import_module("tests.benchmarks.reference_result")
    assert [getattr(theirs, name) for name in ("STEPS", "EVERY", "VALIDATION")] == [
        result.STEPS, result.EVERY, result.VALIDATION]
    assert theirs.SECTIONS == session.VALIDATION_SECTIONS
    assert importlib.import_module("tests.benchmarks.reference_loop").SHARPEN_SIGMA == augment.SHARPEN_SIGMA
    program = "import sys, tests.benchmarks.reference_result; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
