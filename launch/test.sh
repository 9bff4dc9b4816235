#!/usr/bin/env bash
# Run the tests, two files at a time: launch/test.sh [arguments of pytest]. Tests on real volumes need YSEG_DATA, the folder of
# the data sets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
exec "${YSEG_VENV:-.venv}/bin/python" -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@"
