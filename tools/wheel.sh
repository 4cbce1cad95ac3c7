#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the wheel of podattn into FOLDER/dist, tagged by what it needs of the system, and says its size and for what it is.
# pip, scikit-build-core, auditwheel and patchelf are those of the PATH.
#
#   tools/wheel.sh FOLDER [CMAKE_VARIABLE=VALUE...]      as in PODATTN_CUDA=OFF, which builds in seconds
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: tools/wheel.sh FOLDER [CMAKE_VARIABLE=VALUE...]}
shift
export PIP_DISABLE_PIP_VERSION_CHECK=1
defines=()
for define in "$@"; do defines+=(--config-settings="cmake.define.$define"); done
mkdir -p "$out"
rm -rf "$out/built" "$out/dist"
pip -q wheel --no-deps --no-build-isolation --wheel-dir "$out/built" "${defines[@]}" .
if ! auditwheel repair --wheel-dir "$out/dist" "$out"/built/*.whl >"$out/auditwheel.log" 2>&1; then
    cat "$out/auditwheel.log" >&2
    exit 1
fi
wheel=$(echo "$out"/dist/podattn-*-py3-none-manylinux_*.whl)
# A library that auditwheel had put in would need its own licence's text there.
if python3 -m zipfile -l "$wheel" | grep -F podattn.libs/; then exit 1; fi
python3 - "$wheel" <<'PYTHON'
import os, re, sys, zipfile

wheel = zipfile.ZipFile(sys.argv[1])
library = next(wheel.read(name) for name in wheel.namelist() if name.endswith("libpodattn.so"))
metadata = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
kernels = "the CPU backend alone" if b"this build has no GPU backend" in library else "the CPU backend and the GPU's kernels"
pythons = re.search(r"^Requires-Python: (.*)$", metadata, re.MULTILINE)[1]
print(f"wheel: {sys.argv[1]}: {os.path.getsize(sys.argv[1]):,} bytes, {kernels}, for every Python {pythons}")
PYTHON
