"""Residuals of evicted tokens: how the kernels of LESS are trained."""
