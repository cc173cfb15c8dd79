"""Controls without a network, one file each. The gain of a deep model is its difference from these.

Axes: n samples, M modalities, C columns of the table view, D columns of a design matrix, K tasks.
"""
