"""Declarations of optimizers of every sort, written before any executor: the shell must read them all alike.

Each has torch's arguments and torch's state; the rule is a stand-in, so that what is tested is the declaration alone.
LBFGS is the library's own: nothing but a real driver has state that all parameters share.
"""

from steepest.drivers.lbfgs import LBFGS

from .adaptive import NAdam, NovoGrad, RAdam
from .classic import ASGD, SGD, Adagrad, Rprop
from .matrix import Adafactor, Muon
from .others import SparseAdam

DECLARED = (SGD, NAdam, RAdam, ASGD, Rprop, Adagrad, NovoGrad, Adafactor, LBFGS, Muon, SparseAdam)
