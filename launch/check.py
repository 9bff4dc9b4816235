r"""Look at the volumes of a training before it: shows both side by side, and says what looks wrong.

    python -m launch.check --config=configs/epfl_to_vnc.py
    python -m launch.check --config=configs/custom.py --config.source.image=a.tif --config.source.labels=a_labels.tif \
        --config.target.image=b.tif --output=runs/b_check

It takes the command line of launch.train, with --workdir or without. A picture (check.png) and all that was measured (check.json)
go into --output. What is found is advice: the program ends with 0 also if something looks wrong. It looks at samples of what is
trained on, never at labels of the target, unless these are trained on, and never at a test part.
"""

import yseg
from launch import program, train
from launch.complaints import with_flags

COLUMNS = ("volume", "shape", "pixel, section (nm)", "type", "working shape", "foreground", "object (working pixels)")


def define(values):
    """Add the program's own flags, and those of launch.train, of which it needs none."""
    program.define_path("output", "the folder of check.png and check.json; it is created, or an earlier check in it is replaced;"
                        " default: WORKDIR_check, or check without --workdir", values)
    program.define_path("workdir", "the folder that the training is to have: whether it may is checked, nothing is written there",
                        values)
    train.define_training(values)


def main(values):
    """Look, print a table and what looks wrong."""
    from yseg.report import print_table  # needs Matplotlib, for which --help and a bad flag need not wait

    train.check_multihost(values)
    config, workdir = train.members(train.budgeted(values), values.workdir or "", values.seeds)[0]
    output = values.output or (f"{values.workdir.rstrip('/')}_check" if values.workdir else "check")
    report = yseg.check(config, output, workdir=workdir if values.workdir else None)
    print_table([_row(name, volume) for name, volume in report["volumes"].items()], COLUMNS, report["config"])
    memory = report["memory"]
    print(f"{memory['working_gib']:.2g} GiB on the working grid,"
          f" {'kept in memory' if memory['kept'] else 'read from the files as it is needed'}")
    for number, finding in enumerate(report["findings"], 1):
        print(with_flags(f"{number}. {finding['text']}"))
    print(f"{report['picture']}: {_summary(len(report['findings']))}")


def _row(name, volume):
    section, labels = volume["section_nm"] or volume["seen_spacing_nm"], volume.get("labels")
    given = "" if volume["section_nm"] else " as seen"
    size = labels and labels["typical_diameter"]
    return dict(zip(COLUMNS, (
        name, _times(volume["shape"]), f"{volume['pixel_size_nm']:g}, {f'{section:.3g}{given}' if section else 'unknown'}",
        volume["dtype"], _times(volume["working_shape"]), f"{labels['share']:.2%}" if labels else None,
        f"{size:.1f}" if size else None), strict=True))


def _times(shape):
    return " x ".join(map(str, shape))


def _summary(count):
    return "nothing looks wrong" if not count else f"{count} thing{'s' if count > 1 else ''} may be wrong"


PROGRAM = program.Program(__doc__, define, main, takes_config=True)

if __name__ == "__main__":
    program.run(PROGRAM)
