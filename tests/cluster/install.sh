#!/usr/bin/env bash
# Install SLURM for the tests of this folder: Debian's packages, if this is root on a Debian; else they are skipped.
set -euo pipefail
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
