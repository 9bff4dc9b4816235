#!/usr/bin/env bash
# Adapt a network to a volume without labels, on two drawn volumes: minutes, no data.
#
# A network is trained on the labelled source and adapted to the target. Before and after are scored on a part of the target that
# no training sees, beside a network that was trained on the target's own labels (the oracle), and segment the target.
#
#     launch/demo.sh [WORKDIR]        WORKDIR: runs/demo by default; a demo that was interrupted is continued
set -euo pipefail
caller="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
workdir="${1:-$PWD/runs/demo}"
[[ "$workdir" == /* ]] || workdir="$caller/$workdir"
launch/setup.sh
python="${YSEG_VENV:-.venv}/bin/python"

# Drawing takes some seconds: once, not in every program.
volumes="$workdir/volumes"
"$python" - "$volumes" <<'PYTHON'
import sys
from pathlib import Path

from configs.demo import get_config
from yseg.volumes.volume import create_volume, open_volume

folder, config = Path(sys.argv[1]), get_config()
for domain in (config.source, config.target):
    for url in (domain.image, domain.labels):
        path = folder / f"{url.split('?')[0].removeprefix('phantom://').replace('/', '_')}.zarr"
        if not path.exists():
            values = open_volume(url).read().result()
            with create_volume(str(path), values.shape, values.dtype, domain.pixel_size_nm) as store:
                store.write(values).result()
PYTHON
flags=()
for domain in source target; do
    for content in image labels; do
        flags+=("--config.$domain.$content=$volumes/${domain}_$content.zarr")
    done
done

"$python" -m launch.train --config=configs/demo.py "${flags[@]}" --workdir="$workdir/adapted"
"$python" -m launch.train --config=configs/demo.py:ft "${flags[@]}" --workdir="$workdir/oracle" \
    --config.target_labels.use=only --config.target_labels.fraction=1 --config.optimizer.steps=1000
"$python" -m launch.evaluate --workdir="$workdir/adapted" --noadapted
"$python" -m launch.evaluate --workdir="$workdir/adapted" --adapted
"$python" -m launch.evaluate --workdir="$workdir/oracle"
for network in noadapted adapted; do
    "$python" -m launch.segment --workdir="$workdir/adapted" --"$network" --image="$volumes/target_image.zarr" \
        --output="$workdir/segmented_$network.zarr" --overwrite
done

"$python" - "$workdir" <<'PYTHON'
import json
import sys
from pathlib import Path

from yseg.data.box import sections_of
from yseg.data.domain import open_own_domain
from yseg.report import print_table, side_by_side
from yseg.runs.folder import read_config
from yseg.volumes.volume import open_volume

workdir = Path(sys.argv[1])
use = json.loads((workdir / "adapted" / "choice.json").read_text())["use"]


def results(run, network, name):
    """The scores of a network of a run; those of the one that was chosen are in results.json."""
    file = "results.json" if network in ("", use) else f"results_{network}.json"
    return {"network": name, **json.loads((workdir / run / file).read_text())}


rows = [results("adapted", "unadapted", "source only"), results("adapted", "adapted", "adapted, without target labels"),
        results("oracle", "", "oracle, with target labels")]
print()
print_table(rows, ["network", "iou", "precision", "recall", "f1"], "Mitochondria of the target, held-out part")

target = open_own_domain(read_config(workdir / "adapted"), "target", with_labels=True)
test = target.split.test
middle = (test.start[0] + test.stop[0]) // 2
section = sections_of(test, middle, middle + 1)
found = {f"{row['network'].split(',')[0]}, IoU {row['iou'] or 0:.2f}":
         open_volume(str(workdir / f"segmented_{name}.zarr"))[section.slices].read().result()[0]
         for row, name in zip(rows, ("noadapted", "adapted"), strict=False)}
image = target.image[section.slices].read().result()[0]
print(side_by_side(image, target.classes(section)[0], found, workdir / "demo.png", pixel_size_nm=target.pixel_size_nm,
                   title=f"Mitochondria of the target, section {middle} of the held-out part"))
print(workdir / "segmented_adapted.zarr")
print(f"the {use} network is the one that launch.segment takes by default")
PYTHON
