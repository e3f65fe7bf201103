"""Triton kernels, one module per operation, beside the plain PyTorch forms in `todm.nn` and `todm.losses`."""

SAME_ALPHA = 1e-3
"""Alphas closer to 0 or 1 than this use the Kullback-Leibler limit of the alpha divergence."""
