"""Timing and memory of whole training steps: forward, backward and step. `steepest bench train` prints them."""
