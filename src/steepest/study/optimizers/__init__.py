"""Optimizers of a study: their sources, their configurations, and their learning-rate schedules."""
