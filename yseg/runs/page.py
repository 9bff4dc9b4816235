"""The report of a run: what its folder tells, as a page. It opens no volume and no checkpoint."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from yseg.config import NONE, ONLY, SELF_TRAINING, Experiment, InputError, ResolvedExperiment, knobs, labelled_domain
from yseg.methods import METHODS
from yseg.report.embedded import Album, fitting
from yseg.report.figures import curves_svg, scale_bar
from yseg.report.page import Block, Frame, Listing, Page, Picture, Section, Slider, Table, Text
from yseg.report.stack import Stack, read_stack
from yseg.report.tables import cell, readable
from yseg.runs.choice import ADAPTED, CHOICE, UNADAPTED, choice_line
from yseg.runs.citations import to_cite
from yseg.runs.folder import CHANGES, FIRST_STAGE, REPORT, read_config, read_prior
from yseg.runs.history import EVALUATED, SEGMENTED, TRAINED, read_history
from yseg.runs.instances import instances
from yseg.runs.provenance import provenance
from yseg.runs.views import FOLDERS
from yseg.training.recorder import read_metrics

SCORES = ("iou", "precision", "recall", "f1", "object_f1", "threshold")  # columns, where they are known
_MOST_ROWS = 100  # of a table
_SLIDERS = 0.45  # of what is left for pictures that each slider may take
_PLACES = ("source.", "target.", "data_dir", "name", "method", "seed", "self_training.start", "target_labels.boxes",
           "target_labels.start")  # knobs that the page tells of elsewhere


def page_of(workdir: Path, album: Album | None = None) -> Page:
    """The Page of a run, finished or not.

    Raises:
      InputError: the folder holds no run.
    """
    config, album = read_config(workdir), album or Album()
    rows, history = read_metrics(workdir), read_history(workdir)
    results, damaged = read_results(workdir)
    sections_seen = list(_sliders(workdir, album))  # first, as they take most of the room
    pictures = _pictures(workdir, album)
    first = workdir / FIRST_STAGE
    return Page(config.name, subtitle(config, rows), [
        Section("summary", "In short", [*_summary(config, workdir, rows, results), *_lines(damaged)]),
        Section("volumes", "What it was trained on", list(volumes(config, history))),
        Section("training", "Training", list(training(config, workdir))),
        Section("curves", "Curves", curves({"": rows}, album)),
        Section("panels", "Source and target", [
            pictures.pop("panels.png")] if "panels.png" in pictures else []),
        Section("sections", "Sections", sections_seen or _taken(pictures, "segmentation")),
        Section("scores", "Scores", [*scores(results), *_taken(pictures, "evaluation")]),
        Section("unlabelled", "What is known without labels", list(_without_labels(workdir, sections_seen))),
        Section("instances", "Instances", [*instances(workdir, history), *_taken(pictures, "instances")]),
        Section("first", "First stage", list(_first_stage(first, album)) if (first / "config.json").is_file() else []),
        Section("pictures", "Other pictures", list(pictures.values())),
        Section("provenance", "Provenance", list(provenance(workdir, history))),
        Section("cite", "How to cite", [Listing(to_cite(config, _first_method(config)))])])


def subtitle(config: ResolvedExperiment, rows: list[dict[str, Any]]) -> str:
    """A run in one line: its method, seed and steps."""
    done = rows[-1]["step"] if rows else 0
    steps = f"{done} steps" if done >= config.optimizer.steps else f"{done} of {config.optimizer.steps} steps: not finished"
    return f"{method_of(config)}, seed {config.seed}, {steps}"


def method_of(config: Experiment) -> str:
    """The method of a run, for people; a training on labels of the target alone is named after them."""
    return METHODS[config.method].title if config.target_labels.use != ONLY else "labels of the target"


def _lines(texts: Iterable[str], warning: bool = False) -> list[Block]:
    return [Text(text, warning) for text in texts]


def read_results(workdir: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The scores of a run by their question, its own test first, and a line for each file that is damaged."""
    found, damaged = {}, []
    paths = [*workdir.glob("results*.json"), *workdir.glob("fold.json")]
    for path in sorted(paths, key=lambda path: (len(path.stem), path.stem)):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("no object")
        except (OSError, ValueError) as error:
            damaged.append(f"{path.name} cannot be read ({error}), so its scores are left out.")
            continue
        names = {"results": "the run's own test", "fold": "the fold held out"}
        found[names.get(path.stem) or path.stem.removeprefix("results_").replace("_", " ")] = content
    return found, damaged


# --- What it is ---


def _summary(config: ResolvedExperiment, workdir: Path, rows: list[dict[str, Any]],
             results: Mapping[str, Mapping[str, Any]]) -> Iterator[Block]:
    labelled, other = getattr(config, labelled_domain(config)), config.target
    said = f"A network that segments {config.model.classes - 1} kind(s) of structure" if config.model.classes > 2 else "A network"
    trained = f"{said}, trained on the labels of {short_spec(labelled.image)}"
    if labelled is not other:
        adapts = METHODS[config.method].sees_target
        trained += f" and {'adapted to' if adapts else 'not adapted; to be used on'} {short_spec(other.image)}"
    yield Text(f"{trained}.")
    done = rows[-1]["step"] if rows else 0
    if done < config.optimizer.steps:
        yield Text(f"The training is not finished: {done} of {config.optimizer.steps} steps are recorded. The command that began"
                   " it goes on with it.", warning=True)
    known = [f"Scored, {question}: IoU {number(found.get('iou'))}, F1 {number(found.get('f1'))}."
             for question, found in list(results.items())[:3] if "iou" in found]
    validation = [row["validation_iou"] for row in rows if row.get("validation_iou") is not None]
    if validation:
        known.append(f"On the validation part of the {labelled_domain(config)}: IoU {number(validation[-1])}.")
    line = _choice(workdir)
    yield Listing([*known, *([f"{line[0].upper()}{line[1:]}."] if line else [])] or ["Nothing has been scored yet."])


def volumes(config: ResolvedExperiment, history: list[dict[str, Any]]) -> Iterator[Block]:
    """Tables of the volumes: what they are, their voxels and parts."""
    told: Mapping[str, Any] = next((line["volumes"] for line in reversed(history)
                                    if line["what"] == TRAINED and isinstance(line.get("volumes"), dict)), {})
    lines: list[list[str]] = []

    def line(title: str, value: Any) -> None:
        found = [value(name) for name in ("source", "target")]
        if any(found):
            lines.append([title, *(text or "-" for text in found)])

    def of_files(name: str, key: str) -> Any:
        return told.get(name, {}).get(key)

    def voxel(name: str) -> str:
        domain = getattr(config, name)
        apart = of_files(name, "section_nm") or domain.section_nm
        return f"{f'{apart:g}' if apart else 'not given'}, {domain.pixel_size_nm:g}, {domain.pixel_size_nm:g} nm"

    line("image", lambda name: shown_spec(getattr(config, name).image))
    line("labels", lambda name: shown_spec(getattr(config, name).labels))
    line("foreground", lambda name: getattr(config, name).labels and getattr(config, name).foreground)
    line("data set", lambda name: getattr(config, name).dataset)
    line("voxel (z, y, x)", voxel)
    line("shape (z, y, x)", lambda name: " x ".join(map(str, of_files(name, "shape") or [])))
    for part, title in (("train", "box for training"), ("validation", "box for validation"), ("test", "box kept for the test")):
        line(title, lambda name, part=part: of_files(name, part))
    if not told:
        line("kept for validation", lambda name: _percent(getattr(config, name).validation_fraction))
        line("kept for the test", lambda name: _percent(getattr(config, name).test_fraction))
    line("tissue", lambda name: getattr(config, name).mask)
    yield Table(["", "source", "target"], lines)
    yield Text(f"The network works at {config.sampling.working_pixel_size_nm:g} nm a pixel. Boxes are z, y, x in voxels of the"
               " files.")
    labels = config.target_labels
    if labels.use == NONE:
        yield Text("No label of the target was trained on.")
    else:
        boxes = "; ".join(map(str, labels.boxes[:20])) + (", ..." if len(labels.boxes) > 20 else "")
        yield Text(f"Labels of the target were trained on ({labels.use}): {_percent(labels.fraction) or '0 %'} of its training"
                   f" part, boxes {boxes or 'none'}.")


def training(config: ResolvedExperiment, workdir: Path) -> Iterator[Block]:
    """What was trained, and how."""
    rows = [["method", method_of(config)], ["seed", str(config.seed)],
            ["steps", str(config.optimizer.steps)], ["patches", _patches(config)],
            ["network", f"2-D U-Net, {config.model.levels} levels, {config.model.features} features at the first"],
            ["loss", config.loss.name], ["optimiser", f"{config.optimizer.name}, learning rate"
                                                      f" {config.optimizer.learning_rate:g}, {config.optimizer.schedule}"]]
    started = config.self_training.start if config.method == SELF_TRAINING else config.target_labels.start
    if started:
        own = config.method == SELF_TRAINING and Path(started).name == FIRST_STAGE
        rows.append(["started from", "its first stage" if own else started])
    yield Table(["", ""], rows)
    differing = [[name, str(value), str(usual)] for name, value, usual in other_knobs(config)]
    if differing:
        yield Table(["knob", "here", "default"], differing, f"{len(differing)} knobs that differ from their defaults",
                    printed=True)
    changes = _json_lines(workdir / CHANGES)
    if changes:
        yield Text("It went on with another config:")
        yield Listing([f"from step {change.get('step')}: " + ", ".join(
            f"{name}={value[1]} (before: {value[0]})" for name, value in change.items()
            if isinstance(value, list) and len(value) == 2) for change in changes[-_MOST_ROWS:]])


def other_knobs(config: Experiment) -> Iterator[tuple[str, Any, Any]]:
    """(knob, value, default) of the knobs that are not at their default, but for what the page tells of elsewhere."""
    for (name, _, _, value), (_, _, _, usual) in zip(knobs(config, ""), knobs(Experiment(), ""), strict=True):
        name = name.lstrip(".")
        if value != usual and not name.startswith(_PLACES):
            yield name, value, usual


def curves(runs: Mapping[str, list[dict[str, Any]]], album: Album) -> list[Block]:
    """The training curves of a run or of several, if there are any."""
    runs = {name: rows for name, rows in runs.items() if len(rows) > 1}
    if not runs:
        return []
    svg = album.add((curves_svg(runs, ("loss", "score")), ".svg"))
    last = {name: rows[-1] for name, rows in runs.items()}
    ends = [[name, *(f"{readable(key)} {number(row[key])}" for key in ("loss", "validation_iou") if key in row)]
            for name, row in list(last.items())[:10]]
    alt = "Training curves against the step. At the last step: " + "; ".join(", ".join(filter(None, end)) for end in ends)
    return [Picture(svg[0], alt)] if svg else _lines(["The curves take too much room for this page."])


# --- What it does ---


def scores(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Block]:
    """A table of the main scores, and one with every number for each question."""
    if not results:
        yield Text("Nothing has been scored: launch.evaluate compares with labels.")
        return
    names = [name for name in SCORES if any(name in found for found in results.values())]
    yield Table(["question", *map(readable, names), "image", "region"], [
        [question, *(number(found.get(name)) for name in names), short_spec(str(found.get("image", ""))),
         str(found.get("region", ""))]
        for question, found in list(results.items())[:_MOST_ROWS]])
    if len(results) > _MOST_ROWS:
        yield Text(f"{len(results) - _MOST_ROWS} more are in the folder.")
    for question, found in list(results.items())[:_MOST_ROWS]:
        simple = [[readable(name), number(value)] for name, value in found.items() if not isinstance(value, list | dict)]
        yield Table(["", ""], simple, f"All numbers: {question}")


def _sliders(workdir: Path, album: Album) -> Iterator[Block]:
    for what, title in ((SEGMENTED, "Segmented"), (EVALUATED, "Scored")):
        stack = read_stack(workdir / REPORT / FOLDERS[what])
        if stack:
            yield from _slider(stack, title, album)


def _slider(stack: Stack, title: str, album: Album) -> Iterator[Block]:
    kept = fitting([len(image) + len(overlay) for _, image, overlay in stack.sections], _SLIDERS * album.left)
    frames = []
    for index in kept:
        section, image, overlay = stack.sections[index]
        uris = album.add((image, ".jpg"), (overlay, ".png"))
        if uris:
            frames.append(Frame(f"section {section}", *uris))
    told = stack.told
    volume, region = short_spec(str(told.get("image", ""))), told.get("region", "")
    where = f"{len(frames)} sections of {volume}, region {region}"
    share = told.get("share")
    called = f", of which the network calls {_percent(share) or '0 %'} foreground" if isinstance(share, int | float) else ""
    threshold = f", threshold {told['threshold']:.4g}" if isinstance(told.get("threshold"), int | float) else ""
    if frames:
        yield Slider(frames, stack.size, stack.legend, f"{title}: {volume}", f"{title}: {where}{called}. Network:"
                     f" {told.get('network', 'not said')}{threshold}. {told.get('date', '')}".strip(), _scale(told))


def _scale(told: Mapping[str, Any]) -> tuple[float, str] | None:
    width, size = told.get("width"), told.get("pixel_size_nm")
    if not (isinstance(width, int) and isinstance(size, int | float) and width * size > 0):
        return None
    length, text = scale_bar(width * size)
    return length / (width * size), text


def _without_labels(workdir: Path, sections: list[Block]) -> Iterator[Block]:
    """What needs no label of the target: the source's shape, what adaptation advises, and the signs it goes by."""
    line, found = _choice(workdir), _json(workdir / CHOICE)
    if line:
        yield Text(f"{line[0].upper()}{line[1:]}.")
    try:
        prior = read_prior(workdir)
    except InputError as error:
        yield Text(str(error), warning=True)
        prior = None
    signs = {"network before": found.get(UNADAPTED), "adapted network": found.get(ADAPTED)}
    rows = [[name, *(number(sign.get(key)) for key in ("agreement", "plausible", "share"))]
            for name, sign in signs.items() if isinstance(sign, dict)]
    if rows:
        yield Table(["on the target", "agreement of neighbouring sections", "looks like the source's", "share of foreground"],
                    [*rows, ["source's labels", "-", "-", number(prior.share if prior else None)]])
        yield Text("Agreement: the Dice coefficient of what is called foreground in neighbouring sections. Looks like the"
                   " source's: the share of the foreground in objects of a size and form that the source has, too.")
    elif prior:
        yield Text(f"Of the labels that it was trained on {_percent(prior.share)} are foreground.")
    if prior:
        yield Text(f"Of the labelled objects 97 % have at least {prior.least_area_nm2 / 1e6:.2g} µm² in a section, and 99 % a"
                   f" solidity of at least {prior.least_solidity:.2f}.")


def _choice(workdir: Path) -> str | None:
    try:
        return choice_line(workdir)
    except InputError as error:
        return str(error)


def _first_stage(first: Path, album: Album) -> Iterator[Block]:
    config, rows = read_config(first), read_metrics(first)
    yield Text(f"The network that self-training started from: {subtitle(config, rows)}.")
    yield from curves({"": rows}, album)
    pictures = _pictures(first, album)
    yield from _taken(pictures, "panels")


def _first_method(config: Experiment) -> str | None:
    """The method of the run that a self-training started from, if it can be told."""
    try:
        return read_config(config.self_training.start).method if config.method == SELF_TRAINING else None
    except InputError:
        return None


# --- Pictures ---


def _pictures(workdir: Path, album: Album) -> dict[str, Block]:
    """The pictures of a run by the names of their files, panels first; a line for what has no room."""
    found: dict[str, Block] = {}
    paths = sorted((workdir / REPORT).glob("*.png"), key=lambda path: (path.stem != "panels", len(path.stem), path.stem))
    for path in paths:
        shown = path.stem == "loss_curves" or (path.stem == "segmentation" and path.with_name(FOLDERS[SEGMENTED]).is_dir())
        if path.name.startswith(".") or shown:
            continue
        source = album.add_file(path)
        about = _ABOUT.get(path.stem.split("_")[0], "Picture")
        more = path.stem.partition("_")[2].replace("_", " ")
        caption = f"{about}{f' ({more})' if more else ''}"
        found[path.name] = (Picture(source, caption, caption) if source else
                            Text(f"{caption}: {path.name} is damaged, or takes too much room for this page."))
    return found


_ABOUT = {"panels": "Patches of source and target at the last validation: the image, the labels, the prediction",
          "segmentation": "A section as it was segmented", "instances": "How the volumes of the instances are distributed",
          "evaluation": "A section as it was scored, right and wrong told apart"}


def _taken(pictures: dict[str, Block], stem: str) -> list[Block]:
    """The pictures whose names begin like that, which are taken out."""
    return [pictures.pop(name) for name in list(pictures) if name.split(".")[0].split("_")[0] == stem]


# --- Texts ---


def shown_spec(spec: str) -> str:
    """A volume's name in a table: a URL without its query, but for a phantom, and of a path the last two parts."""
    if spec.startswith("phantom://"):
        return spec
    return spec.split("?")[0] if "://" in spec else "/".join(Path(spec).parts[-2:]).lstrip("/")


def short_spec(spec: str) -> str:
    """A volume's name in a sentence."""
    return shown_spec(spec).split("?")[0]


def number(value: object) -> str:
    """A score as text; one that does not exist is undefined."""
    return "undefined" if value is None or value != value else cell(value)


def _percent(share: float | None) -> str:
    return f"{100 * share:.3g} %" if share else ""


def _patches(config: Experiment) -> str:
    nm = config.sampling.patch_size * config.sampling.working_pixel_size_nm
    return f"{config.sampling.batch_size} a step and domain, of {config.sampling.patch_size} pixels ({nm / 1000:.3g} µm) a side"


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []
    return [line for line in found if isinstance(line, dict)]
