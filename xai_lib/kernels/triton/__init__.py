"""The Triton kernels; each computes what the module of its name does in torch."""
