"""Kernels for CUDA devices, written in Triton from the same trace as the C of the native executor."""
