"""The example on which Adam does not converge."""

from functools import partial

from torch import Tensor

from steepest.landscapes.declaration import Draw, Option, Surface, surface

PERIOD = 3


def value(p: Tensor, c: float) -> Tensor:
    """p: (1,). Returns the mean loss."""
    return ((c - (PERIOD - 1)) / PERIOD * p).sum()


def seen(draw: Draw, p: Tensor, c: float) -> Tensor:
    """Return the loss of a step at p, (1,): cx in the first of three steps, -x in the other two."""
    return ((c if draw.step % PERIOD == 0 else -1.0) * p).sum()


@surface(c=Option(3.0, "slope C of the rare steps that lead down", 2.01, 1e4))
def reddi(c: float) -> Surface:
    """Example of Reddi, Kale and Kumar: the large gradients that lead down are rare, and Adam divides by them."""
    return Surface(
        value=partial(value, c=c),
        seen=partial(seen, c=c),
        formula=r"f_t(x) = Cx \;\mathrm{if}\; t \,\mathrm{mod}\, 3 = 1, \;\mathrm{else}\; -x; \quad -1 \leq x \leq 1",
        source="Reddi, Kale and Kumar 2018, On the convergence of Adam and beyond, arXiv:1904.09237, theorem 1",
        starts=((1.0,), (0.0,)),
        minima=((-1.0,),),
        shapes=((1,),),
        box=(-1.0, 1.0),
        note="After each step x is put back into [-1, 1]. The paper's Adam has β1 = 0 and β2 = 1 / (1 + C²), which is "
        "adam[betas=(0,0.1)] for C = 3, and amsgrad[betas=(0,0.1)] next to it.",
        is_elementwise=False,
    )
