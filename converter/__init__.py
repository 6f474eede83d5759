"""Bring Gluon parameters to PyTorch, and prove that nothing changed on the way."""

__version__ = "0.1.0"
