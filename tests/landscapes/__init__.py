"""Tests of steepest.landscapes."""
