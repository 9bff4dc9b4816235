"""Several seeds at once: in one command against one after the other, and on an accelerator in one step."""

import subprocess
import tempfile
import time

import jax
import jax.numpy as jnp

from tests.benchmarks import ours
from tests.benchmarks.setting import SMALL, experiment
from tests.benchmarks.startup import CONFIG, ROOT, command
from tests.benchmarks.timing import compare, row
from yseg import parallel
from yseg.runs.population import population_step

SEEDS = (0, 1, 2)
MEMBERS, STEPS = 8, 10  # of a step, and of a call


def build_members(config, members, steps):
    """A side: `steps` steps of `members` networks at once."""
    _, state, raw = ours.step_of(config)
    step = population_step(config, {})
    state = parallel.replicate(jax.tree.map(lambda leaf: jnp.stack([leaf] * members), parallel.on_host(state)))
    raw = jax.tree.map(lambda leaf: jnp.stack([leaf] * members, axis=1), raw)
    keys = jax.random.split(jax.random.key(1), members)

    def run():
        nonlocal state
        for _ in range(steps):
            state, metrics = step(state, raw, keys)
        jax.block_until_ready((state, metrics))

    return run, {}


def at_once(rounds, size=SMALL, members=MEMBERS):
    """The row of a step of several members against as many steps of one."""
    config = experiment(size, batch=2 * size.batch)
    seconds, _ = compare({"together": (build_members, config, members, STEPS),
                          "apart": (ours.build_step, config, members * STEPS)}, rounds)
    return [row("population", f"{members} networks in one step: {size}", seconds["together"], seconds["apart"], 0.25,
                "one after the other", units=members * STEPS)]


def commands(rounds):
    """The row of three seeds of one command against three commands; the compiled programs are in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--config.optimizer.steps=30", "--config.record.validate_every=0", f"--compilation_cache={folder}/cache")

        def together(name):
            subprocess.run(command(f"{folder}/{name}", f"--seeds={','.join(map(str, SEEDS))}", *flags), cwd=ROOT, check=True,
                           capture_output=True)

        def apart(name):
            for seed in SEEDS:
                subprocess.run(command(f"{folder}/{name}_{seed}", f"--config.seed={seed}", *flags), cwd=ROOT, check=True,
                               capture_output=True)

        together("warm")
        seconds = {together: [], apart: []}
        for number in range(rounds):
            for form in (together, apart) if number % 2 else (apart, together):
                began = time.perf_counter()
                form(f"{form.__name__}{number}")
                seconds[form].append(time.perf_counter() - began)
    return [row("population", f"{len(SEEDS)} seeds of 30 steps in one command: {CONFIG}", seconds[together], seconds[apart], 1.0,
                f"{len(SEEDS)} commands", units=len(SEEDS) * 30)]
