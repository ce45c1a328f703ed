"""Stored files: their format, their bytes, the disk and the lock under them, and the machine that wrote them."""
