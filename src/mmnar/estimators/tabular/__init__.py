"""Controls without a network, one file each. What a deep model gains is what it gains over these.

Axes: n samples, M modalities, C columns of the table view, D columns of a design matrix, K tasks.
"""
