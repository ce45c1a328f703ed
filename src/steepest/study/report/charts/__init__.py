"""The report's charts: pure data first, then two renderers that draw it."""
