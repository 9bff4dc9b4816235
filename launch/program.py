"""What the programs share: flags, configs as flags, and one clear line for whatever the user has to change.

A program has its own FlagValues and not the global ones of absl: a misspelt flag is found, --help stays short, and a command
line can be parsed any number of times in one process.
"""

import dataclasses
import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable

from absl import app, flags
from ml_collections import config_flags

from launch.complaints import BAD_INPUT, DONE, complain, knob_names
from launch.execution import execute
from launch.usage import usage
from yseg.config import IGNORED, MATCHED, METHODS, OBEYED, STATISTICS, Experiment, InputError, check
from yseg.volumes.header import FORMATS

OUTPUT = "the volume that is created: NAME.zarr, .n5 or .precomputed (a path, s3:// or gs://), NAME.tif or NAME.h5:DATASET"

_CONFIG = re.compile(r"--?config(?:=(.*))?")
_OVERRIDE = re.compile(r"--?(?:no)?(config\.[^=]*).*")
_HELP = re.compile(r"--?(h|help|helpfull|helpshort)(=.*)?")
_ILLEGAL = re.compile(r"flag --([^=]*)=(.*?): (.*)", re.DOTALL)
_REQUIRED = "must be given"
# Where the volumes of a run may be now, see `define_moved`: the flag, and what yseg calls it.
_MOVED = {"data_dir": "data_dir", **{f"{domain}_{what}": f"{domain}.{what}" for domain in ("source", "target")
                                    for what in ("image", "labels")}}


@dataclasses.dataclass(frozen=True)
class Program:
    """A command, `python -m launch.NAME`."""

    about: str  # what it does, and an example: the module's docstring
    define: Callable[[flags.FlagValues], None]  # adds its own flags
    main: Callable[[flags.FlagValues], None]  # does it, given the parsed flags
    takes_config: bool = False  # whether it has --config and --config.GROUP.NAME
    every_method: bool = False  # whether --config is FILE.py without a method, and values.config a dict by method


def run(program, argv=None):
    """Parse the flags, do it, and exit: 0 done, 2 a bad flag, config or input (one line on stderr), see `launch.complaints`."""
    app.run(lambda values: execute(program.main, values, continues=program.takes_config or {"from", "part"} & {*values}), argv,
            flags_parser=lambda argv: _parse_or_exit(program, argv))


def parse(program, argv):
    """The flags of a command line.

    Args:
      program: Program.
      argv: the command line, with the program's name in front.

    Returns:
      FlagValues; `.config` is a checked `yseg.config.Experiment` if the program takes one, or a dict of them by method.

    Raises:
      InputError: a flag is unknown, missing or has a value that is not allowed, or the config cannot be read.
    """
    values, argv = _flags_of(program), list(argv)
    if program.takes_config:
        argv = _config_first(argv)
        _check_overrides(argv)
        sys.modules.pop("config_config", None)  # ml_collections loads a file on top of the one before: names would survive
    try:
        if program.takes_config:
            config_flags.DEFINE_config_file("config", help_string="the experiment", flag_values=values, sys_argv=argv)
        rest = values(argv)[1:]
        if program.takes_config and not isinstance(values.config, Experiment):
            getattr(values.config, "name", None)  # a file that could not be read raises only now
            raise InputError(f"{argv[1]}: get_config must return a yseg.config.Experiment")
    except Exception as error:
        raise InputError(_explain(error, values, argv)) from error
    if rest:
        raise InputError(f"{rest[0]!r}: must be a flag, --NAME=VALUE")
    if program.takes_config:
        check(values.config)
    if program.every_method:
        if ":" in argv[1]:
            raise InputError(f"{argv[1]}: must be FILE.py without a method, as all of them are compared")
        one = dataclasses.replace(program, every_method=False)
        values["config"].value = {method: parse(one, [argv[0], f"{argv[1]}:{method}", *argv[2:]]).config for method in METHODS}
    return values


class _Path(flags.ArgumentParser):
    """A path, in which ~ is the home folder, or a URL."""

    syntactic_help = "a path"

    def flag_type(self):
        """As flags of text in --help."""
        return "string"

    def parse(self, argument):
        """The path without ~; InputError if there is no home folder."""
        found = argument if "://" in argument else os.path.expanduser(argument)
        if found == "~" or found.startswith("~/"):
            raise InputError(f"{argument}: must be a path without ~, as there is no home folder (HOME is not set)")
        return found


def define_path(name, meaning, values):
    """A flag that is a path or a URL."""
    flags.DEFINE(_Path(), name, None, meaning, flag_values=values)


def define_required(name, meaning, values):
    """A flag that is a path or a URL and must be given."""
    define_path(name, meaning, values)
    flags.register_validator(name, bool, _REQUIRED, flag_values=values)


def define_moved(values):
    """The flags of programs that read the volumes of a run, which may have moved since it was trained."""
    define_path("data_dir", "the folder in which the volumes of the run are now, if they have moved: they are found there by the"
                " last parts of their paths", values)
    for name, knob in list(_MOVED.items())[1:]:
        domain, what = knob.split(".")
        define_path(name, f"where the {what} of the run's {domain} is now, if it has moved", values)


def moved(values):
    """What `yseg.load_run` and the verbs call `moved`, of the flags of `define_moved`."""
    return {knob: values[name].value for name, knob in _MOVED.items() if values[name].value}


def define_network(values):
    """The flags --workdir and --model, of which exactly one must be given, and those of `define_moved`."""
    define_path("workdir", "the folder of a run of launch.train", values)
    define_path("model", "a folder written by launch.export, instead of --workdir", values)
    flags.register_multi_flags_validator(["workdir", "model"], _check_network, flag_values=values)
    define_moved(values)


def _check_network(given):
    workdir, model = given["workdir"], given["model"]
    if workdir and model:
        raise InputError(f"--model={model}: must not be given with --workdir={workdir}")
    if not (workdir or model):
        raise InputError("--workdir is missing: must be the folder of a run of launch.train; or give --model, a folder written by"
                         " launch.export")
    return True


def network(values):
    """The run's folder or the released model of `define_network`."""
    if not values.model:
        return values.workdir
    if values.adapted is not None:
        raise InputError(f"--adapted={values.adapted}: must come with --workdir, as a released model is one network")
    if moved(values):
        raise InputError(f"--{next(iter(moved(values))).replace('.', '_')}: must come with --workdir, as a released model has no"
                         " volumes of its own")
    import yseg

    return yseg.load_model(values.model)


def define_sizes(values):
    """The flags that say what the file of --image may say, too: --pixel_size_nm, --section_nm, --metadata and --channel."""
    flags.DEFINE_float("pixel_size_nm", None, "size of a pixel of the image in y and x, in nm; default: as its file says",
                       flag_values=values)
    flags.DEFINE_float("section_nm", None, "distance of its neighbouring sections, in nm; default: as its file says, if it does",
                       flag_values=values)
    flags.DEFINE_enum("metadata", None, [OBEYED, IGNORED], "what the image's file says of these sizes; obeyed: it must not differ"
                      " from what is given", flag_values=values)
    flags.DEFINE_integer("channel", None, "which channel of the image; default: it must have one", lower_bound=0,
                         flag_values=values)


def define_reading(values):
    """The flags that say how --image is read: those of `define_sizes`, --mask and --nan."""
    define_sizes(values)
    flags.DEFINE_string("mask", None, "where the image has tissue: a volume of its shape that is not 0 there, nodata=VALUE, or"
                        " border; the rest is background; default: as in the config, of its own volumes", flag_values=values)
    flags.DEFINE_enum("nan", None, ["error", "unlabelled"], "what pixels of the image are that are not finite: an error, or"
                      " unlabelled = without tissue", flag_values=values)


def reading(values):
    """What the verbs take of the flags of `define_reading`, see `yseg.data.domain.Reading`."""
    return {name: values[name].value for name in ("section_nm", "metadata", "channel", "mask", "nan")}


def define_statistics(values):
    """The flag --batch_statistics of programs that apply a trained network."""
    flags.DEFINE_enum("batch_statistics", None, [*STATISTICS, "source"], "whose statistics batch normalisation uses, as"
                      " --config.model.batch_statistics of launch.train; default: the config's, and those of the"
                      " training for its source",
                      flag_values=values)


def define_augmentation(values):
    """The flag --test_time_augmentation of programs that apply a trained network."""
    flags.DEFINE_boolean("test_time_augmentation", None, "average over the eight rotations and mirror images of each tile,"
                         " which takes eight times the time; default: as --config.inference.test_time_augmentation of the run",
                         flag_values=values)


def define_adapted(values):
    """The flag --adapted of programs that apply a trained network."""
    flags.DEFINE_boolean("adapted", None, "after self-training: the adapted network, or (--noadapted) the one that it started"
                         " from; default: as choice.json in the workdir says", flag_values=values)


def define_plausible_objects(values):
    """The flag --plausible_objects of programs that apply a trained network."""
    flags.DEFINE_boolean("plausible_objects", None, "call components of a section background that look like none that was"
                         " labelled in training, in size or form, and of which the network is not sure; default: as"
                         " --config.inference.plausible_objects of the run", flag_values=values)


def define_tracker(values):
    """The flag --tracker of programs that train."""
    flags.DEFINE_enum("tracker", None, ["mlflow", "wandb"], "a service that gets config, numbers and pictures, too: MLflow or"
                      " Weights & Biases, set by their own variables, such as MLFLOW_TRACKING_URI; needs the package; default:"
                      " none", flag_values=values)


def define_format(values):
    """The flag --format of programs that write a volume."""
    flags.DEFINE_enum("format", None, list(FORMATS), "how the output is written; default: by its ending, .zarr as ome-zarr-0.5,"
                      " .tif as tiff (ImageJ's, and OME's above 4 GB)", flag_values=values)


class _Threshold(flags.ArgumentParser):
    """A number from 0 to 1, or the word "matched"."""

    syntactic_help = f"a number from 0 to 1, or {MATCHED}"

    def flag_type(self):
        """As flags of text in --help."""
        return "string"

    def parse(self, argument):
        """The number or the word; ValueError for anything else."""
        if argument == MATCHED:
            return argument
        if not 0 <= float(argument) <= 1:
            raise ValueError(self.syntactic_help)
        return float(argument)


def define_threshold(values):
    """The flag --threshold of programs that apply a trained network."""
    flags.DEFINE(_Threshold(), "threshold", None, "foreground probability from which a pixel is foreground; matched = that at"
                 " which the target's training part has the source's share of foreground; default: the config's",
                 flag_values=values)


def define_scheduler(values):
    """The flag --scheduler of programs that compute in blocks."""
    flags.DEFINE_string("scheduler", "", "who computes the blocks: empty = this process; local = a worker for each GPU or core of"
                        " this machine, local:N = N of them, of one core each; slurm = the tasks of srun, the first of which"
                        " gives them out; or a Dask scheduler's address, tcp://HOST:8786, or file, FILE.json", flag_values=values)


def print_end(last):
    """Say how a training ended, which `last` tells, see `yseg.train`."""
    print(f"{last['workdir']}: trained for {last['step']} steps", flush=True)
    if last.get("choice"):
        print(last["choice"], flush=True)


def numbers(name, texts, kind):
    """The numbers of a list flag: `kind` (int or float) of each text; InputError if one is none, below 0 or there twice."""
    try:
        found = [kind(text) for text in texts]
    except ValueError:
        found = [-1]
    if not found or min(found) < 0:
        words = "whole numbers" if kind is int else "numbers"
        raise InputError(f"--{name}={','.join(texts)}: must be {words} of at least 0, separated by commas")
    if len(set(found)) < len(found):
        raise InputError(f"--{name}={','.join(texts)}: must differ from one another")
    return found


def _flags_of(program):
    values = flags.FlagValues()
    program.define(values)
    define_path("compilation_cache", "folder of compiled programs, which makes the next start faster; empty = none; default:"
                " JAX_COMPILATION_CACHE_DIR or a folder in the user's cache", values)
    return values


# --- Parsing ---


def _parse_or_exit(program, argv):
    """What `app.run` calls: help and errors end the program here, before anything is computed or written."""
    flags.FLAGS.mark_as_parsed()  # absl's own flags keep their defaults
    try:
        if any(_HELP.fullmatch(argument) for argument in argv[1:]):
            _show(_help(program, argv))
            sys.exit(DONE)
        return parse(program, argv)
    except InputError as error:
        sys.exit(complain(error, BAD_INPUT))


def _show(text):
    """Print a text of which the reader, such as `head`, may want no more than a part."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes at its end


def _help(program, argv):
    """--help; with the values of the config if one is given."""
    values = _flags_of(program)
    if not program.takes_config:
        return usage(program.about, values)
    given = [argument for argument in argv if not _HELP.fullmatch(argument)]
    specs = [_CONFIG.fullmatch(argument) for argument in given]
    if not any(specs):
        return usage(program.about, values, Experiment())
    only_config = Program(program.about, lambda values: None, program.main, takes_config=True)
    given = [argument for argument in _config_first(given) if _CONFIG.fullmatch(argument) or _OVERRIDE.fullmatch(argument)]
    return usage(program.about, values, parse(only_config, [argv[0], *given]).config, given[0])


def _config_first(argv):
    """The command line with --config=FILE before all other flags, where its overrides can be parsed; the file exists."""
    rest, specs, arguments = [argv[0]], [], iter(argv[1:])
    for argument in arguments:
        found = _CONFIG.fullmatch(argument)
        if found:
            specs.append(found[1] if found[1] is not None else next(arguments, ""))
        else:
            rest.append(argument)
    if not any(specs):
        raise InputError("--config is missing: must be FILE.py:METHOD, for example configs/demo.py:ynet")
    if len(specs) > 1:
        raise InputError(f"--config={specs[1]}: given twice, after --config={specs[0]}")
    specs[0] = _Path().parse(specs[0])
    path = specs[0].split(":")[0]
    if not os.path.isfile(path):
        raise InputError(f"--config={specs[0]}: no file {path}; must be FILE.py:METHOD, for example configs/demo.py:ynet")
    return [rest[0], f"--config={specs[0]}", *rest[1:]]


def _check_overrides(argv):
    """InputError if a --config.GROUP.NAME does not exist."""
    known = knob_names()
    for argument in argv:
        found = _OVERRIDE.fullmatch(argument)
        if found and found[1] not in known:
            group = [name for name in known if name.startswith(found[1].rstrip(".") + ".")]
            if group:
                raise InputError(f"--{found[1]}: is a group of knobs, such as --{group[0]}; see --help")
            raise InputError(_unknown(found[1], known))


def _unknown(name, known):
    last = name.rsplit(".", 1)[-1]
    near = [other for other in known if other.rsplit(".", 1)[-1] == last]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = " or ".join(f"--{other}" for other in near)
    return f"--{name}: unknown flag; " + (f"did you mean {meant}?" if near else "see --help")


def _explain(error, values, argv):
    """One line for what was raised while flags were parsed or the config was loaded."""
    chain = [error]
    while chain[-1].__cause__ or chain[-1].__context__:
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    for cause in reversed(chain):  # libraries wrap what a config raises
        if isinstance(cause, InputError):
            return str(cause)
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown(error.flagname, [*values, *(knob_names() if "config" in values else [])])
    illegal = _ILLEGAL.match(str(error)) if isinstance(error, flags.IllegalFlagValueError) else None
    if illegal and illegal[1] != "config":
        name, value, reason = illegal.groups()
        flag = values[name]
        if reason == _REQUIRED:
            return f"--{name} is missing: must be {flag.help}"
        allowed = {"bool": "true or false", "int": "a whole number", "tuple": "numbers, such as '(1, 2)'"}.get(flag.flag_type())
        allowed = allowed or getattr(flag.parser, "syntactic_help", "")
        return f"--{name}={value}: must be {allowed}" if allowed else f"--{name}={value}: {reason}"
    if isinstance(error, flags.Error) and not illegal:
        return str(error).removeprefix("ERROR:: ")
    cause = chain[-1]
    where = traceback.extract_tb(cause.__traceback__)
    line = f", line {where[-1].lineno} of {where[-1].filename}" if where else ""
    return f"{argv[1]}: cannot be loaded ({type(cause).__name__}: {cause}{line})"
