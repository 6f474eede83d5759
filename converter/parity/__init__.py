"""Numerical parity of two networks: comparison, tolerances, results, diagnosis and reports."""
