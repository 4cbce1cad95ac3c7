#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes each requirements.txt from the requirements.in beside it: every package that is installed, those included that
# others need, with its version and the hashes of its files. What is pinned already stays as it is where it still fits.
#
#   tools/pin.sh [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."
readonly UV_PINNED=0.9.0 place=.cache/pin
if ! [ -x "$place/bin/uv" ]; then
    python3 -m venv "$place"
    "$place/bin/pip" -q install "uv==$UV_PINNED"
fi

pin() { # FOLDER OLDEST_PYTHON [OPTION...]
    local folder=$1 oldest=$2
    shift 2
    "$place/bin/uv" pip compile --quiet --universal --python-version "$oldest" --generate-hashes \
        --custom-compile-command tools/pin.sh "${options[@]}" "$@" "$folder/requirements.in" \
        --output-file "$folder/requirements.txt"
}

options=("$@")
pin python 3.11
pin bench 3.9
pin tools 3.9
pin tools/lint 3.9
pin tools/wheel 3.9
# Installed beside what python/requirements.txt has, which it must fit.
pin integrations/transformers 3.11 --constraint python/requirements.txt --no-emit-package numpy
