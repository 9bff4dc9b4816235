#!/usr/bin/env bash
# Install what the tests of this folder need: Chromium and Xvfb, as Debian's packages, if this is root on a Debian, and the Python
# packages of requirements.txt into .venv-viewers, which sees those of .venv, too. What cannot be had is said, and its tests are
# skipped. To run them: .venv-viewers/bin/python -m pytest tests/viewers
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
packages=(chromium xvfb libgl1-mesa-dri libegl1 libgl1 libdbus-1-3 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1
    libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxkbcommon-x11-0)
if ! dpkg --status "${packages[@]}" > /dev/null 2>&1; then
    if [[ "$(id -u)" != 0 ]] || ! command -v apt-get > /dev/null; then
        echo "tests/viewers/install.sh: not root on a Debian; tests without Chromium or Xvfb will be skipped" >&2
    else
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends "${packages[@]}"; } > /dev/null \
            || echo "tests/viewers/install.sh: Chromium and Xvfb cannot be installed; their tests will be skipped" >&2
    fi
fi

launch/setup.sh
base="${YSEG_VENV:-.venv}"
wanted="$(cat "$base/requirements.stamp" tests/viewers/requirements.txt | cksum)"
stamp=.venv-viewers/requirements.stamp
if [[ -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]]; then
    exit 0
fi
rm -rf .venv-viewers
"$base/bin/python" -m venv .venv-viewers
base_site="$("$base/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
own_site="$(.venv-viewers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
echo "$base_site" > "$own_site/yseg.pth"
if .venv-viewers/bin/python -m pip install -qq --disable-pip-version-check --requirement tests/viewers/requirements.txt; then
    echo "$wanted" > "$stamp"
else
    echo "tests/viewers/install.sh: the packages of requirements.txt cannot be installed; the tests will be skipped" >&2
fi
