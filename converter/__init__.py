"""Bring Gluon parameters to PyTorch, and prove that nothing changed on the way."""
