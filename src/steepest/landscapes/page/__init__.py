"""The interactive page of a trace: one file that needs no network."""
