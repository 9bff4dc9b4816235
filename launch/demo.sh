#!/usr/bin/env bash
# Adapt a network to a volume without labels, on two drawn volumes: minutes, no data. See launch/demo.py.
#
#     launch/demo.sh [WORKDIR]        WORKDIR: runs/demo by default; a demo that was interrupted is continued
set -euo pipefail
caller="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
workdir="${1:-$PWD/runs/demo}"
[[ "$workdir" == /* ]] || workdir="$caller/$workdir"
launch/setup.sh
exec "${YSEG_VENV:-.venv}/bin/python" -m launch.demo --config=configs/demo.py --workdir="$workdir"
