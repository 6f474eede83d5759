"""Numerical agreement of two networks: comparison, tolerances, result, diagnosis, report."""
