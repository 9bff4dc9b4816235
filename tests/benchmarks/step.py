"""The training step: against PyTorch's, against the rate of a matrix product, and what each method adds to it."""

import statistics

from tests.benchmarks import ours
from tests.benchmarks.setting import LARGE, PAPER, SMALL, experiment
from tests.benchmarks.timing import compare, ratio, row

STEPS = {SMALL: 10, PAPER: 4, LARGE: 10}  # of a call
OVERHEADS = {"mmd": 1.10, "coral": 1.10, "dann": 1.15}  # goals against the encoder on both domains


def suite(rounds, with_pytorch, sizes=(SMALL, PAPER)):
    """Rows of the supervised step: all patches of both domains go through the whole network. No augmentation."""
    rows = []
    for size in sizes:
        steps = STEPS[size]
        config = experiment(size, batch=2 * size.batch)
        sides = {"ours": (ours.build_step, config, steps), "product": (ours.build_product, size.dtype)}
        if with_pytorch:
            from tests.benchmarks import reference

            sides["theirs"] = (reference.build_step, ours.check_values(config), steps, size.dtype)
        seconds, facts = compare(sides, rounds)
        if with_pytorch:
            goal = 0.8 if size is LARGE else 0.9
            rows.append(row("step", f"step: {size}", seconds["ours"], seconds["theirs"], goal, "PyTorch",
                            facts["theirs"]["setting"], units=steps))
        rows.append(_roofline(size, steps, seconds, facts))
    return rows


def _roofline(size, steps, seconds, facts):
    """The share of the matrix product's rate that the step reaches: the ratio of their times for as many operations."""
    flops, product = facts["ours"]["flops"], facts["product"]["flops"]
    step = [value / steps for value in seconds["ours"]]
    at_product_rate = [value * flops / product for value in seconds["product"]]
    share, spread = ratio(at_product_rate, step)
    rate = flops / statistics.median(step) / 1e9
    return {"suite": "step", "what": f"share of the matrix product's rate: {size}", "ours, ms": 1000 * statistics.median(step),
            "against": f"product of {ours.SIDE} x {ours.SIDE}", "its ms": 1000 * statistics.median(at_product_rate),
            "ratio": share, "±": spread, "goal": 0.7, "met": "yes" if share >= 0.7 else "no",
            "note": f"{flops / 1e9:.1f} GFLOP a step, {rate:.0f} of {rate / share:.0f} GFLOP/s"}


def overhead(rounds, sizes=(SMALL, PAPER)):
    """Rows of what each method adds. No augmentation."""
    rows = []
    for size in sizes:
        steps = STEPS[size]
        both = (ours.build_encoder_on_both, experiment(size), steps)
        sides = {"both": both, "plain": (ours.build_step, experiment(size), steps), **{
            method: (ours.build_step, experiment(size, method), steps) for method in (*OVERHEADS, "ynet")}}
        seconds, facts = compare(sides, rounds)
        for method, goal in OVERHEADS.items():
            rows.append(row("overhead", f"{method}: {size}", seconds[method], seconds["both"], goal, "encoder on both domains",
                            units=steps))
        for method in (*OVERHEADS, "ynet"):
            rows.append(row("overhead", f"{method}: {size}", seconds[method], seconds["plain"], None,
                            "training on the source alone", units=steps))
        factor = facts["ynet"]["flops"] / facts["both"]["flops"]
        scaled = [value / factor for value in seconds["ynet"]]
        rows.append(row("overhead", f"ynet, by operations: {size}", scaled, seconds["both"], 1.05, "encoder on both domains",
                        f"{factor:.2f} times the operations; its own time divided by that", units=steps))
    return rows
