# SPDX-License-Identifier: Apache-2.0
"""One figure a suite of `podattn bench`, one file each; results.py reads the CSV files, look.py says how figures look.

A suite has TITLE, draw(results), which returns a figure whose title states what the numbers say, and
findings(results), which says the same in Markdown, measured against the paper's claim.
"""
