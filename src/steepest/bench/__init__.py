"""Timing of ``optimizer.step()``: what is measured, how, and what came out. `steepest bench step` prints it."""
