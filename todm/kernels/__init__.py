"""Triton kernels, one module per operation; the plain PyTorch forms are in `todm.nn` and `todm.losses`.

A plain form looks for its kernels with `todm.kernels.gpu.find_kernels`, which imports them only where a
GPU is found. Kernels know nothing of the plain forms; their tests compare the two.
"""
