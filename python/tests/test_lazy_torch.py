# SPDX-License-Identifier: Apache-2.0
"""PyTorch is not imported for those who do without it, and is found by whatever is called after it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

BATCH = """
import numpy as np
limits = dict(q_heads=1, kv_heads=1, head_dim=8, page_size=4, num_pages=1, max_requests=1, max_q_tokens=4, max_kv_len=4,
              dtype="float32", device="cpu")
q, k = np.ones((1, 1, 8), np.float32), np.ones((1, 4, 1, 8), np.float32) * 3
"""

PROGRAMS = {
    "NumPy alone": """
        import sys, podattn
        plan = podattn.Plan(**limits)
        plan.build([0, 1], [4])
        assert (plan.attention(q, k, k) == 3).all() and (podattn.hybrid_attention(q, k, k, [0, 1], [4]) == 3).all()
        podattn.merge([q], [q[..., 0]])
        assert "torch" not in sys.modules
    """,
    "PyTorch before": """
        import torch, podattn
        q, k = torch.from_numpy(q), torch.from_numpy(k)
        start, lengths = torch.tensor([0, 1]), torch.tensor([4])
        assert (torch.ops.podattn.hybrid_attention(q, k, k, start, lengths) == 3).all()
    """,
    "PyTorch after": """
        import podattn, torch
        q, k = torch.from_numpy(q), torch.from_numpy(k)
        out = podattn.hybrid_attention(q, k, k, [0, 1], [4])
        assert isinstance(out, torch.Tensor) and (out == 3).all()
        assert (torch.ops.podattn.hybrid_attention(q, k, k, torch.tensor([0, 1]), torch.tensor([4])) == 3).all()
    """,
    "PyTorch after a plan was built": """
        import podattn
        plan = podattn.Plan(**limits)
        plan.build([0, 1], [4])
        import torch
        q, k = torch.from_numpy(q), torch.from_numpy(k)
        assert isinstance(plan.attention(q, k, k), torch.Tensor)
        assert (torch.ops.podattn.attention(q, k, k, plan.plan_id) == 3).all()
    """,
    "a compiled layer after a plan": """
        import podattn, torch
        plan = podattn.Plan(**limits)
        plan.build([0, 1], [4])
        q, k = torch.from_numpy(q), torch.from_numpy(k)
        layer = torch.compile(lambda q, k: plan.attention(q * 1, k, k), fullgraph=True, backend="aot_eager")
        assert (layer(q, k) == 3).all()
    """,
    "PyTorch that is kept from being imported": """
        import sys
        sys.modules["torch"] = None
        import podattn
        assert (podattn.hybrid_attention(q, k, k, [0, 1], [4]) == 3).all()
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str) -> None:
    lines = [line[8:] for line in PROGRAMS[name].splitlines()]
    subprocess.run([sys.executable, "-c", BATCH + "\n".join(lines)], check=True)
