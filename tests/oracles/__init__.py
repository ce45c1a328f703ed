"""Independent float64 references of every optimizer, from the papers, with torch's conventions: numpy, no torch.

`ORACLES[name](theta0, grads, **hyperparameters)` takes a list of arrays, for each step a list of gradients (None: this
tensor has no gradient at this step) and hyperparameters named as the class's arguments. It returns for each tensor the
final "param" and its state under torch's names: arrays, and floats for the step count and other numbers. `lr` may be a
list with one rate per step.
"""

from collections.abc import Callable

from .adam import adam, adamax, adamw, sparse_adam
from .adam_variants import nadam, radam
from .adaptive import adadelta, adagrad, rmsprop
from .averaging import weight_average
from .common import Array, Result
from .factored import adafactor
from .momentum import momentum, nag, nag_lookahead, sgd
from .novograd import novograd
from .orthogonal import muon
from .problems import problem, without
from .quadratic import steepest_descent
from .signs import asgd, rprop

ORACLES: dict[str, Callable[..., list[Result]]] = {
    "sgd": sgd,
    "momentum": momentum,
    "nag": nag,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adadelta": adadelta,
    "adam": adam,
    "adamw": adamw,
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "novograd": novograd,
    "rprop": rprop,
    "asgd": asgd,
    "adafactor": adafactor,
    "muon": muon,
    "sparseadam": sparse_adam,
}

__all__ = ["ORACLES", "Array", "Result", "nag_lookahead", "problem", "steepest_descent", "weight_average", "without"]
