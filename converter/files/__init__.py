"""What lies on a disk: every kind of file read from a memory map, and written whole or not at all."""
