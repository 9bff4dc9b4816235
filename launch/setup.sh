#!/usr/bin/env bash
# Create .venv with the packages of requirements.txt; nothing is done while it is up to date.
# PYTHON chooses the interpreter (3.11 to 3.13), YSEG_VENV another folder than .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv="${YSEG_VENV:-.venv}"
stamp="$venv/requirements.stamp"
wanted="$(cksum < requirements.txt)"

if [[ -x "$venv/bin/python" && -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]]; then
    exit 0
fi

if [[ ! -x "$venv/bin/python" ]]; then
    python=""
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
        # ensurepip is a package of its own on Debian and Ubuntu (python3-venv), without which there is no pip in the environment.
        if "$candidate" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' > /dev/null 2>&1; then
            python="$candidate"
            break
        fi
    done
    if [[ -z "$python" ]]; then
        echo "launch/setup.sh: no Python 3.11, 3.12 or 3.13 with venv was found; install one, or name it: PYTHON=/path/to/python3" >&2
        exit 2
    fi
    echo "Creating $venv with $("$python" --version)" >&2
    "$python" -m venv "$venv"
fi
echo "Installing the packages of requirements.txt into $venv" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
echo "$wanted" > "$stamp"
