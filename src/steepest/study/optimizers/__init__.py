"""Optimizers of a study: where they are found, what they are run with, and their learning-rate schedules."""
