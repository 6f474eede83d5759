"""Functions that generated modules contain: their source is copied; nothing imports them."""
