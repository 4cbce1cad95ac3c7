# SPDX-License-Identifier: Apache-2.0
"""Tests of bench/: small files in the form of `podattn bench`, and what must be seen in the figures made from them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
