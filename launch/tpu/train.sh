#!/usr/bin/env bash
# Train on all hosts of a TPU pod of Google's cloud, whose machines have yseg in ~/yseg and see the same folders.
#
#     launch/tpu/train.sh --config=configs/epfl_to_vnc.py --config.data_dir=/mnt/data --workdir=/mnt/data/runs/b
#
# All flags are those of launch.train. The same command goes on after the pod was preempted.

# --- Edit these ---
name="${YSEG_TPU:-yseg}"
zone="${YSEG_ZONE:-us-central1-a}"
folder="${YSEG_FOLDER:-yseg}"
# ------------------

set -euo pipefail
command="cd $folder && launch/setup.sh && .venv/bin/python -m pip install --quiet 'jax[tpu]==0.10.2' &&"
command+=" exec .venv/bin/python -m launch.train --multihost"
for flag in "$@"; do
    command+=" $(printf '%q' "$flag")"
done
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$command"
