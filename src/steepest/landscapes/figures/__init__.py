"""Figures of paths, maps and films, drawn with matplotlib. Global settings stay as they are."""
