#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Lints the Python packages, builds their wheels and tests them as installed: podattn alone with NumPy, then with PyTorch,
# and what serves engines: the plug-ins of vLLM and SGLang, and podattn-transformers in transformers. Leaves the wheels
# in build/python/dist.
#
#   tools/test_python.sh [CMAKE_VARIABLE=VALUE...]      as in PODATTN_CUDA=OFF, which builds in seconds
#
# PODATTN_TRANSFORMERS=FOLDER: another version of transformers, with what it imports, than the pinned one.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh python
readonly TOOLS=$PWD/.cache/python/bin OUT=$PWD/build/python
# What the tools' environment has, and nothing that a shell may have set.
export PATH="$TOOLS:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH PODATTN_LIBRARY

sources=(python integrations examples tests/bench bench)
ruff check "${sources[@]}"
ruff format --check "${sources[@]}"
mypy

rm -rf "$OUT"
tools/wheel.sh "$OUT" "$@"
wheel=$(echo "$OUT"/dist/podattn-*-py3-none-manylinux_*.whl)

echo "alone: a new environment that has the wheel and what it depends on"
python3 -m venv "$OUT/alone"
"$OUT/alone/bin/pip" -q install "$wheel"
diff <("$OUT/alone/bin/python" examples/hello.py) <(printf 'token %s\n' '0: 0.0' '1: 0.5' '2: 1.0' '3: 9.5')
(cd / && "$OUT/alone/bin/python" -c 'import podattn; print(podattn.device_info("auto"))')

echo "with PyTorch:"
pip -q install --no-deps --target "$OUT/site" "$wheel"
export PYTHONPATH=$OUT/site
python -c 'import sys, podattn; sys.exit(not podattn.__file__.startswith(sys.argv[1]))' "$OUT/site"
python -m pytest -q -p no:cacheprovider python/tests tests/bench/test_{compare,bench_append,plan_times}.py
for engine in vllm sglang; do
    echo "plug-in of $engine:"
    pip -q wheel --no-deps --no-build-isolation --wheel-dir "$OUT/dist" "integrations/$engine"
    pip -q install --no-deps --target "$OUT/site" "$OUT"/dist/podattn_"$engine"-*.whl
    python -m pytest -q -p no:cacheprovider "integrations/$engine/tests"
done
echo "transformers:"
pip -q wheel --no-deps --no-build-isolation --wheel-dir "$OUT/dist" integrations/transformers
pip -q install --no-deps --target "$OUT/site" "$OUT"/dist/podattn_transformers-*.whl
PYTHONPATH=$OUT/site:${PODATTN_TRANSFORMERS:-$PWD/.cache/transformers} \
    python -m pytest -q -p no:cacheprovider integrations/transformers/tests
python bench/python_overhead.py --device cpu --limit-us 10
