#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the pictures and tables of the pages anew: from bench/results, and the planned timeline by the program itself. Two
# are not made here: docs/sm90-pipeline.svg is drawn by hand, and of kv_memory.svg bench/plot_memory.py has the commands,
# which take minutes.
#
#   tools/figures.sh PODATTN
set -euo pipefail
podattn=$(realpath "${1:?usage: tools/figures.sh PODATTN}")
cd "$(dirname "$0")/.."
python=$(bench/venv.sh)
cd docs
# As docs/cli.md shows it.
eval "$podattn $(sed -n 's/^\$ podattn \(plan .* --svg plan-timeline.svg\)$/\1/p' cli.md)" >/dev/null
cd ..
"$python" bench/plot.py bench/results/h200 --figures docs/figures --page docs/evaluation.md --page README.md
"$python" bench/plot.py bench/results/h100 batches --figures docs/figures --page docs/evaluation.md
"$python" bench/behind.py bench/results/h200/compared.csv --readme README.md
"$python" bench/serve.py --figure bench/results/h200/engine.jsonl --figures docs/figures --page docs/engines.md
