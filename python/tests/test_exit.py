# SPDX-License-Identifier: Apache-2.0
"""The interpreter may end while another thread computes."""

import os
import subprocess
import sys

PROGRAM = """
import threading, time
import numpy as np
import podattn

plan = podattn.Plan(q_heads=8, kv_heads=8, head_dim=64, page_size=1024, num_pages=1, max_requests=1,
                    max_q_tokens=256, max_kv_len=1024, dtype="float32", device="cpu:1")
q, k = np.ones((256, 8, 64), "float32"), np.ones((1, 1024, 8, 64), "float32")
plan.build([0, 256], [1024], [[0]])
began = threading.Event()

def compute():
    while True:
        began.set()
        plan.attention(q, k, k)

threading.Thread(target=compute, daemon=True).start()
began.wait()
time.sleep(0.02)
"""


def test_a_daemon_thread_may_still_compute():
    # Freed memory is overwritten at once, so that a use of it is a crash.
    environment = {**os.environ, "MALLOC_PERTURB_": "165"}
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, timeout=120, capture_output=True)
        assert ended.returncode == 0, ended.stderr.decode()
