"""Tests of steepest.cli."""
