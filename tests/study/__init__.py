"""Tests of steepest.study."""
