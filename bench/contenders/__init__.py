# SPDX-License-Identifier: Apache-2.0
"""The libraries that bench/peers.py lets compute the same hybrid batch, one file each.

A contender is a function that takes the Inputs of one batch, plans, and returns a call: call(layer) computes one layer
and returns its outputs in the order of the query tokens, as a tuple of [tokens, heads, head_dim] tensors. A call that
computes one side of the batch alone says so by being an Alone (sides.py). Whatever a contender cannot do it says by
raising LeftOut with the reason.
"""
