# SPDX-License-Identifier: Apache-2.0
"""Settings of PyTorch, where the reference is, and a fake of SGLang in the place of the package.

With PODATTN_SGLANG_REAL set, the package itself, where it can be imported: `real_sglang.py` says which of its classes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from fake_sglang import install

sys.path.insert(0, str(Path(__file__).parents[2] / "reference"))

# The reference is small, and its threads would wait for the library's on the same cores.
torch.set_num_threads(1)

if os.environ.get("PODATTN_SGLANG_REAL"):
    import real_sglang

    real_sglang.use()
else:
    install()
