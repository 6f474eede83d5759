"""File formats, one module each: the formats of Gluon and PyTorch, and their containers."""
