"""Steepest: every optimizer as one readable update rule, and honest studies that compare them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .fields import Field, State
from .optimizer import Optimizer
from .rule import Rule

__version__ = "0.1.0"

if TYPE_CHECKING:  # a list for type checkers; a test holds it equal to what is found
    from . import param_groups as groups
    from . import schedules as schedules
    from .catalogue import create as create
    from .catalogue import info as info
    from .catalogue import names as names
    from .drivers.lbfgs import LBFGS as LBFGS
    from .drivers.steepest_descent import SteepestDescent as SteepestDescent
    from .replicas import check_replicas as check_replicas
    from .rules.adabelief import AdaBelief as AdaBelief
    from .rules.adabound import AdaBound as AdaBound
    from .rules.adadelta import Adadelta as Adadelta
    from .rules.adafactor import Adafactor as Adafactor
    from .rules.adagrad import Adagrad as Adagrad
    from .rules.adam import Adam as Adam
    from .rules.adam import AdamW as AdamW
    from .rules.adam_atan2 import AdamAtan2 as AdamAtan2
    from .rules.adam_mini import AdamMini as AdamMini
    from .rules.adamax import Adamax as Adamax
    from .rules.adamod import AdaMod as AdaMod
    from .rules.adamp import SGDP as SGDP
    from .rules.adamp import AdamP as AdamP
    from .rules.adams import AdamS as AdamS
    from .rules.adamuon import AdaMuon as AdaMuon
    from .rules.adan import Adan as Adan
    from .rules.ademamix import AdEMAMix as AdEMAMix
    from .rules.ademamix import SimplifiedAdEMAMix as SimplifiedAdEMAMix
    from .rules.adopt import ADOPT as ADOPT
    from .rules.aggmo import AggMo as AggMo
    from .rules.apollo import APOLLO as APOLLO
    from .rules.asgd import ASGD as ASGD
    from .rules.came import CAME as CAME
    from .rules.cocob import COCOB as COCOB
    from .rules.dadaptation import DAdaptAdam as DAdaptAdam
    from .rules.dadaptation import DAdaptSGD as DAdaptSGD
    from .rules.diffgrad import DiffGrad as DiffGrad
    from .rules.dog import DoG as DoG
    from .rules.dog import DoWG as DoWG
    from .rules.dog import LDoG as LDoG
    from .rules.galore import GaLore as GaLore
    from .rules.grams import Grams as Grams
    from .rules.lamb import LAMB as LAMB
    from .rules.laprop import LaProp as LaProp
    from .rules.lars import LARS as LARS
    from .rules.lion import Lion as Lion
    from .rules.madgrad import MADGRAD as MADGRAD
    from .rules.mars import MARS as MARS
    from .rules.momentum import NAG as NAG
    from .rules.momentum import Momentum as Momentum
    from .rules.momo import MoMo as MoMo
    from .rules.momo import MoMoAdam as MoMoAdam
    from .rules.muon import Muon as Muon
    from .rules.muon2 import Muon2 as Muon2
    from .rules.nadam import NAdam as NAdam
    from .rules.normuon import NorMuon as NorMuon
    from .rules.novograd import NovoGrad as NovoGrad
    from .rules.padam import Padam as Padam
    from .rules.prodigy import Prodigy as Prodigy
    from .rules.psgd_kron import PSGDKron as PSGDKron
    from .rules.qhm import QHM as QHM
    from .rules.qhm import QHAdam as QHAdam
    from .rules.quad import QUAD as QUAD
    from .rules.radam import RAdam as RAdam
    from .rules.radam import Ranger as Ranger
    from .rules.rmsprop import RMSprop as RMSprop
    from .rules.rprop import Rprop as Rprop
    from .rules.schedule_free import AdamWScheduleFree as AdamWScheduleFree
    from .rules.schedule_free import RAdamScheduleFree as RAdamScheduleFree
    from .rules.schedule_free import SGDScheduleFree as SGDScheduleFree
    from .rules.scion import Scion as Scion
    from .rules.sgd import SGD as SGD
    from .rules.shampoo import Shampoo as Shampoo
    from .rules.signum import Signum as Signum
    from .rules.sm3 import SM3 as SM3
    from .rules.soap import SOAP as SOAP
    from .rules.sophia import Sophia as Sophia
    from .rules.sparse_adam import SparseAdam as SparseAdam
    from .rules.splus import SPlus as SPlus
    from .rules.stable_adamw import StableAdamW as StableAdamW
    from .rules.yogi import Yogi as Yogi
    from .snapshots import PostHocEMA as PostHocEMA
    from .snapshots import Snapshots as Snapshots
    from .sweep import LrRange as LrRange
    from .sweep import lr_range as lr_range
    from .transforms import PowerLaw as PowerLaw
    from .weights import update_bn as update_bn
    from .wrappers import ASAM as ASAM
    from .wrappers import GSAM as GSAM
    from .wrappers import SAM as SAM
    from .wrappers import Mechanic as Mechanic

__all__ = [
    "ADOPT",
    "APOLLO",
    "ASAM",
    "ASGD",
    "CAME",
    "COCOB",
    "GSAM",
    "LAMB",
    "LARS",
    "LBFGS",
    "MADGRAD",
    "MARS",
    "NAG",
    "QHM",
    "QUAD",
    "SAM",
    "SGD",
    "SGDP",
    "SM3",
    "SOAP",
    "AdEMAMix",
    "AdaBelief",
    "AdaBound",
    "AdaMod",
    "AdaMuon",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamAtan2",
    "AdamMini",
    "AdamP",
    "AdamS",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "Adan",
    "AggMo",
    "DAdaptAdam",
    "DAdaptSGD",
    "DiffGrad",
    "DoG",
    "DoWG",
    "Field",
    "GaLore",
    "Grams",
    "LDoG",
    "LaProp",
    "Lion",
    "LrRange",
    "Mechanic",
    "MoMo",
    "MoMoAdam",
    "Momentum",
    "Muon",
    "Muon2",
    "NAdam",
    "NorMuon",
    "NovoGrad",
    "Optimizer",
    "PSGDKron",
    "Padam",
    "PostHocEMA",
    "PowerLaw",
    "Prodigy",
    "QHAdam",
    "RAdam",
    "RAdamScheduleFree",
    "RMSprop",
    "Ranger",
    "Rprop",
    "Rule",
    "SGDScheduleFree",
    "SPlus",
    "Scion",
    "Shampoo",
    "Signum",
    "SimplifiedAdEMAMix",
    "Snapshots",
    "Sophia",
    "SparseAdam",
    "StableAdamW",
    "State",
    "SteepestDescent",
    "Yogi",
    "__version__",
    "check_replicas",
    "create",
    "groups",
    "info",
    "lr_range",
    "names",
    "schedules",
    "update_bn",
]

_HOMES = {
    "ASAM": "wrappers:ASAM",
    "GSAM": "wrappers:GSAM",
    "LrRange": "sweep:LrRange",
    "Mechanic": "wrappers:Mechanic",
    "PostHocEMA": "snapshots:PostHocEMA",
    "PowerLaw": "transforms:PowerLaw",
    "SAM": "wrappers:SAM",
    "Snapshots": "snapshots:Snapshots",
    "check_replicas": "replicas:check_replicas",
    "create": "catalogue:create",
    "groups": "param_groups",
    "info": "catalogue:info",
    "keras": "keras",
    "lr_range": "sweep:lr_range",
    "names": "catalogue:names",
    "optax": "optax",
    "schedules": "schedules",
    "update_bn": "weights:update_bn",
}
"""Functions and modules with their places; they are imported when they are first asked for."""


if not TYPE_CHECKING:  # with it every name would be right to a type checker

    def __getattr__(name: str) -> Any:
        """Find a function, a module, or an optimizer's class in rules/ and drivers/, when it is first asked for."""
        if name in _HOMES:
            place, _, function = _HOMES[name].partition(":")
            module = import_module(f"steepest.{place}")
            globals()[name] = getattr(module, function) if function else module
            return globals()[name]
        registry = import_module("steepest.registry")
        if name not in __all__:
            hint = "" if name.startswith("_") else registry.suggest(name, __all__)
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
        found = registry.find(name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
