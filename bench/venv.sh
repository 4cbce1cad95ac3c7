#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes .cache/bench, a virtual environment with what bench/requirements.txt pins, and prints its Python. Silent and
# without a network once that is done.
#
#   "$(bench/venv.sh)" bench/plot.py bench/results
set -euo pipefail
cd "$(dirname "$0")/.."

readonly venv=$PWD/.cache/bench wanted=bench/requirements.txt
if ! cmp -s "$wanted" "$venv/installed.txt"; then
    echo "bench: putting what $wanted names into .cache/bench" >&2
    python3 -m venv "$venv" >&2
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        --requirement "$wanted" >"$venv/pip.log" 2>&1; then
        echo "bench: pip could not install them, $venv/pip.log says why; is there a network?" >&2
        exit 1
    fi
    cp "$wanted" "$venv/installed.txt"
fi
echo "$venv/bin/python"
