"""The command line: the only package that prints to the terminal and exits."""
