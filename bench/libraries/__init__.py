# SPDX-License-Identifier: Apache-2.0
"""The libraries that bench/compare.py lets compute the same batches, one file each.

A library's way to compute a batch is a function that takes the Inputs of the batch, plans, and returns a call:
call(layer) computes one layer and returns its outputs in the order of the query tokens, as a tuple of
[tokens, heads, head_dim] tensors. A call that computes one side of the batch alone says so by being an Alone
(sides.py). Whatever a library cannot do it says by raising LeftOut with the reason.
"""
