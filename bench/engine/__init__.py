# SPDX-License-Identifier: Apache-2.0
"""A whole engine under load: what bench/serve.py measures with. Only `vllm_engine` needs PyTorch and vLLM."""
