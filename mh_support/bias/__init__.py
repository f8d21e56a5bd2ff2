"""Bias: whether the same words are met alike, whoever says them.

The texts (`swaps`) are made once for every group of an axis, such as age or faith. What is compared is where the crisis
check sends them (`routing`), what a model replies (`replies`), and how expected people of each group are to it
(`descriptors`). `measure` puts these in a row and says what lies outside the `bounds`.
"""
