#!/usr/bin/env bash
# Train without (ft) and with (ynet) adaptation on procedural volumes, score both on the target, and segment it: minutes, no data.
# ft is also scored with the batch statistics of the source: how much of the gain those of the target are.
#
#     launch/demo.sh [WORKDIR]        WORKDIR: runs/demo by default; a demo that was interrupted is continued
set -euo pipefail
caller="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
workdir="${1:-$PWD/runs/demo}"
[[ "$workdir" == /* ]] || workdir="$caller/$workdir"
launch/setup.sh
python="${YSEG_VENV:-.venv}/bin/python"

for method in ft ynet; do
    "$python" -m launch.train --config="configs/demo.py:$method" --workdir="$workdir/$method"
    "$python" -m launch.evaluate --workdir="$workdir/$method"
done
"$python" -m launch.evaluate --workdir="$workdir/ft" --batch_statistics=training
image="$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["target"]["image"])' "$workdir/ynet/config.json")"
"$python" -m launch.segment --workdir="$workdir/ynet" --image="$image" --output="$workdir/segmented.zarr" --overwrite

"$python" - "$workdir" <<'PYTHON'
import json
import sys
from pathlib import Path

from yseg.report import print_table

workdir = Path(sys.argv[1])
files = ("ft/results_training_statistics.json", "ft/results.json", "ynet/results.json")
rows = [json.loads((workdir / file).read_text()) for file in files]
print()
print_table(rows, ["method", "batch_statistics", "iou", "precision", "recall", "f1"], "Mitochondria of the target, held-out part")
for row in rows[1:]:
    print(f"{row['method']} IoU", "undefined" if row["iou"] is None else f"{row['iou']:.2f}")
for picture in sorted(workdir.glob("*/report/*.png")):
    print(picture)
print(workdir / "segmented.zarr")
PYTHON
