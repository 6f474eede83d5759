"""MXNet graphs: what a ``-symbol.json`` file says, without any framework."""
