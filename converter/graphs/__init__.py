"""MXNet graphs, read from ``-symbol.json`` files without any framework."""
