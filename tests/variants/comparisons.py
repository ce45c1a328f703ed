"""Everything that is compared, and what is not: why."""

from __future__ import annotations

from cases import PLANNED_TWINS

from .comparison import Comparison
from .of_keras import KERAS
from .of_optax import OPTAX
from .of_others import OTHERS
from .of_psgd import PSGD
from .of_schedulefree import SCHEDULEFREE
from .of_timm import TIMM
from .of_zij import ZIJ

TORCH = [
    Comparison("all defaults", f"torch.optim.{cls.__name__}(params)", cls.__name__)
    for cls, _ in PLANNED_TWINS.values()
    if cls.rule.kind != "matrix"  # in bfloat16, and for matrices alone: tests/conformance
]

FORMULAS = [
    Comparison(
        "warm-up of β1 (the authors' code)",
        "formula.simplifiedademamix(alpha=2.0, weight_decay=0.1, total_steps=40)",
        "SimplifiedAdEMAMix",
        {"alpha": 2.0, "weight_decay": 0.1},
        {"total_steps": 40},
    ),
    Comparison("the paper's", "formula.adams(weight_decay=0.1)", "AdamS", {"weight_decay": 0.1}),
    Comparison(
        "with AMSGrad's maximum (the authors' code)", "formula.padam(weight_decay=0.1)", "Padam", {"weight_decay": 0.1}
    ),
]

COMPARISONS = [*TORCH, *KERAS, *OPTAX, *TIMM, *ZIJ, *OTHERS, *SCHEDULEFREE, *PSGD, *FORMULAS]

NOT_COMPARED: dict[str, str] = {
    "adafactor": "Keras's and optax's add ε1 to g²; torch's, which we follow, bounds the mean of rows and the root",
    "galore": "optax's projects the other side",
    "lbfgs": "optax's has another line search and is given the function, not gradients",
    "muon": "Keras's and optax's iterate in the parameter's dtype, torch's and ours in bfloat16",
    "rprop": "optax's, like ours, reads the rate once, and cannot follow the schedule of the measurement",
    "sophia": "is fed with estimates between steps, which the measurement does not make; tests/test_sophia.py",
}
"""Our classes, in small letters, that Keras or optax has under the same name and that are not compared: why."""

NO_PEER: dict[str, str] = {
    "adamuon": "iterates in bfloat16, as pytorch_optimizer's, to other last bits; tests/test_muon_relatives.py",
    "adams": "no package has it; pytorch_optimizer's AdamS is another method",
    "apollo": "pytorch_optimizer's is another algorithm, the authors' has torch's numbers; tests/test_apollo.py",
    "galore": "pytorch_optimizer's finds vectors in float32, optax's projects the other side; tests/test_galore.py",
    "lbfgs": "needs a closure; torch's goes with ours in tests/conformance",
    "muon2": "no package has it; tests/test_muon_relatives.py",
    "normuon": "iterates in bfloat16, as pytorch_optimizer's, to other last bits; tests/test_muon_relatives.py",
    "muon": "iterates in bfloat16, and takes matrices alone; torch's goes with ours in tests/conformance",
    "ranger": "is RAdam, which is compared, in transforms; tests/test_transforms.py has its oracle",
    "shampoo": "Meta's is not on PyPI; pytorch_optimizer's, of 2018, has other vectors; tests/test_shampoo.py",
    "soap": "pytorch_optimizer's rounds its bases to float32 and is equal to 1e-7 only; oracle in tests/test_soap.py",
    "sophia": "is fed with estimates between steps, which the measurement does not make; tests/test_sophia.py",
    "splus": "pytorch_optimizer's finds its bases in float32 and is equal to 1e-6 only; oracle in tests/test_splus.py",
    "sparseadam": "takes sparse gradients alone; torch's goes with ours in tests/conformance",
    "steepestdescent": "needs a closure, and no package has its line searches",
}
"""Our classes, in small letters, without a row that is equal to another library's: why."""
