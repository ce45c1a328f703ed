"""Declarations of optimizers of every sort: the library's own, and stand-ins for what it does not have yet."""

from steepest import registry

from .matrix import Muon

DECLARED = (*registry.optimizers().values(), Muon)
