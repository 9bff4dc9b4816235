"""The programs that the tests of `yseg.parallel` start, each a process of its own that prints what it found as JSON.

`parallel_programs.py devices` compares 2 devices with 1, `parallel_programs.py some` trains on 2 devices of 3, and
`parallel_programs.py process ADDRESS ID COUNT` as one process of several.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tensorstore as ts

from yseg import parallel
from yseg.config import Experiment, InputError, no_augmentation
from yseg.data.grid import Grid
from yseg.data.labels import label_rule
from yseg.data.patches import Region, make_reader
from yseg.methods import METHODS
from yseg.runs.population import population_step
from yseg.training.state import create_state
from yseg.training.step import make_step

STEPS = 3


def experiment(method):
    """A tiny experiment with all that could differ between devices: batch normalisation, plain SGD; with one of the methods also
    augmentation and dropout, which are the same for all and take most of the compilation.
    """
    config = Experiment(method=method)
    if method != "dann":
        config.augmentation = no_augmentation()
    config.sampling.patch_size, config.sampling.batch_size = 16, 4
    config.model.levels, config.model.features, config.model.dropout = 1, 4, 0.3 if method == "dann" else 0.0
    config.adaptation.pixels, config.adaptation.weight = 8, 1.0
    config.adaptation.reconstruction_source = config.adaptation.reconstruction_target = 1.0
    config.adaptation.reversal_gamma = 0.0
    config.optimizer.name, config.optimizer.learning_rate, config.optimizer.warmup_steps = "sgd", 0.05, 0
    return config


def region(seed, pixel_size_nm):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (3, 70, 80), dtype=np.uint8)
    labels = (image > 128).astype(np.uint8)
    grid = Grid(image.shape, pixel_size_nm, 10.0)
    return Region(ts.array(image), ts.array(labels), grid, grid.box, label_rule(">0", "", "--config.source"),
                  (float(image.mean()), float(image.std())))


def reader_of(config, devices=None):
    regions = {"labelled": region(0, 5.0), "target": region(1, 4.6)}
    if not METHODS[config.method].sees_target:
        del regions["target"]
    reader = make_reader(regions, sampling=config.sampling, sections=config.model.sections, seed=config.seed, devices=devices)
    if METHODS[config.method].teaches_itself:
        reader.relabel(ts.array(np.random.default_rng(2).integers(-1, 2, regions["target"].box.shape, np.int8)))
    return reader


def step_of(config, axis_name=None):
    return make_step(config, METHODS[config.method].network(config.model, axis_name), axis_name)


def mapped_step(config, devices=None):
    return parallel.map_step(step_of(config, parallel.AXIS), devices)


def flat(params):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(parallel.on_host(params))]).tolist()


def parts(params):
    """The parts of the parameters that a wrong factor could hit apart."""
    added = {f"classifier_{name}": value for name, value in params.get("classifiers", {}).items()}
    return {**params["network"], **added}


def differences(one, other):
    """Largest difference of each part, relative to the part's largest value."""
    result = {}
    for (name, first), second in zip(parts(one).items(), parts(other).values(), strict=True):
        first, second = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (first, second))
        result[name] = float(np.abs(first - second).max() / np.abs(first).max())
    return result


def first_gradient(state):
    """SGD's momentum after one step is the gradient."""
    return optax.tree_utils.tree_get(state.opt_state, "trace")


def spread(tree):
    """Largest difference of a value between two devices."""
    def largest(tree, place):
        del place  # pmap wants an argument that is mapped
        return jax.tree.map(lambda x: jnp.max(jax.lax.pmax(x, "d") - jax.lax.pmin(x, "d")), tree)

    mapped = jax.pmap(largest, axis_name="d", in_axes=(None, 0), out_axes=None)
    return max(float(x) for x in jax.tree.leaves(mapped(tree, np.arange(jax.device_count()))))


def compare_devices(method, step):
    """What `step`, of two devices, and one of a single device give."""
    config, key = experiment(method), jax.random.key(5)
    batches = [reader.batch(step) for reader in [reader_of(config)] for step in range(STEPS)]
    start = parallel.on_host(create_state(config, jax.random.key(0)))

    single = jax.jit(step_of(config))
    alone, alone_gradient, alone_losses = start, None, []
    for raw in batches:
        joined = {name: value[0] if name.endswith("statistics") else np.concatenate(np.asarray(value))
                  for name, value in raw.items()}
        alone, metrics = single(alone, joined, key)
        alone_gradient = alone_gradient or first_gradient(alone)
        alone_losses.append({name: float(value) for name, value in metrics.items()})

    state, losses = parallel.replicate(start), []
    for number in range(20):
        state, metrics = step(state, batches[number % STEPS], key)
        if number == 0:
            gradient = parallel.on_host(first_gradient(state))
        if number < STEPS:
            losses.append({name: float(value) for name, value in metrics.items()})
        if number == STEPS - 1:
            after = parallel.on_host(state)

    drift = spread((state.params, state.batch_stats, state.opt_state))
    statistics = [np.abs(np.asarray(a) - np.asarray(b)).max()
                  for a, b in zip(jax.tree.leaves(alone.batch_stats), jax.tree.leaves(after.batch_stats), strict=True)]
    return {
        "gradient": differences(alone_gradient, gradient), "parameters": differences(alone.params, after.params),
        "statistics": float(max(statistics)), "losses": [alone_losses, losses],
        "drift": drift,
        "moved": differences(start.params, after.params),
        "after": flat(alone.params),
    }


def compare_population(method, step):
    """Largest differences of two members that step together from each that steps alone, by `step`, all on two devices."""
    config, keys = experiment(method), [jax.random.key(5), jax.random.key(6)]
    start, raw = parallel.on_host(create_state(config, jax.random.key(0))), reader_of(config).batch(0)
    alone = [parallel.on_host(step(parallel.replicate(start), raw, key)[0].params) for key in keys]
    both, twice = (lambda *leaves: jnp.stack(leaves)), (lambda leaf: jnp.stack([leaf, leaf], axis=1))
    state, _ = population_step(config, {})(parallel.replicate(jax.tree.map(both, start, start)), jax.tree.map(twice, raw),
                                           jnp.stack(keys))
    members = [jax.tree.map(lambda leaf, number=number: leaf[number], state.params) for number in range(2)]
    return {"errors": [differences(*pair) for pair in zip(alone, members, strict=True)], "apart": differences(*alone)}


def devices_program():
    unreduced = jax.pmap(lambda place: place, out_axes=None)(np.arange(2))
    steps = {method: mapped_step(experiment(method)) for method in METHODS}
    return {"devices": jax.device_count(), "share": parallel.share(6).tolist(),
            "drift_of_a_forgotten_reduction": spread(unreduced), "population": compare_population("dann", steps["dann"]),
            **{method: compare_devices(method, step) for method, step in steps.items()}}


def trained(config, devices):
    """What a training on some devices gives, after STEPS steps in calls of their own, and after as many in one call."""
    reader, key = reader_of(config, devices), jax.random.key(5)
    step, state = mapped_step(config, devices), parallel.replicate(create_state(config, jax.random.key(0)), devices)
    for place in range(STEPS):
        state, metrics = step(state, reader.batch(place), key)

    def cut(given, index, step):
        return reader.cut(given[0], index, (step, given[1]))

    steps = parallel.map_steps(step_of(config, parallel.AXIS), cut, STEPS, devices)
    again, losses = steps(parallel.replicate(create_state(config, jax.random.key(0)), devices), (reader.volumes, reader.keys),
                          reader.index, key)
    return {"after": flat(state.params), "again": flat(again.params), "loss": float(metrics["loss"]),
            "losses": losses["loss"].tolist(), "where": sorted({device.id for leaf in jax.tree.leaves((state, metrics, again))
                                                                for device in leaf.devices()})}


def some_program():
    used = parallel.devices_for(4)
    return {"devices": jax.device_count(), "share": parallel.share(4).tolist(), **trained(experiment("coral"), used),
            "used": [device.id for device in used.all], "local": [device.id for device in used.local],
            "counts": [len(parallel.devices_for(batch).all) for batch in range(1, 13)],
            "idle": [parallel.idle_devices(batch) for batch in (3, 4, 6, 7)]}


def refuse():
    raise InputError("workdir: is in use")


def fail():
    raise OSError("no space left")


def tens(numbers):
    return np.array([[10 * number, number] for number in numbers]).reshape(len(numbers), 2)


def refuse_the_last(numbers):
    if 4 in numbers:
        raise InputError("section 4: is damaged")
    return tens(numbers)


def outcome(function, *arguments, of=parallel.on_main):
    """What `on_main`, or another function of it, returns or raises."""
    try:
        return ["returned", of(function, *arguments)]
    except Exception as error:
        return [type(error).__name__, str(error)]


def process_program(address, number, count):
    jax.distributed.initialize(address, num_processes=count, process_id=number)
    outcomes = [outcome(function) for function in (lambda: "written", refuse, fail)]
    shares = [parallel.in_shares(tens, many).tolist() for many in (5, 1)]
    outcomes_of_shares = [outcome(function, 5, of=parallel.in_shares) for function in (refuse_the_last, lambda numbers: fail())]
    used = parallel.devices_for(count)  # one of each process
    result = trained(experiment("coral"), used)
    try:
        parallel.devices_for(3)
    except InputError as error:
        refused = str(error)
    return {"processes": jax.process_count(), "devices": jax.device_count(), "share": parallel.share(4, used).tolist(),
            "main": parallel.is_main(), "used": [device.process_index for device in used.all],
            "local": [device.process_index for device in used.local], "outcomes": outcomes, "refused": refused,
            "shares": shares, "outcomes_of_shares": outcomes_of_shares,
            "idle": parallel.idle_devices(2), **result}


PROGRAMS = {"devices": devices_program, "some": some_program, "process": process_program}

if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    print(json.dumps(PROGRAMS[kind](*rest[:1], *map(int, rest[1:]))), flush=True)
