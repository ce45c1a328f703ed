"""Conclusions from a study's records, computed once and without drawing."""
