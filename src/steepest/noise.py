"""Random numbers of rules, counted and not drawn: each is a hash of (seed, parameter, draw, element).

They do not depend on torch's generators, on how parameters are stacked, or on the device, but for the last bit of a
logarithm. A run that resumes has the numbers that it would have had.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .codecs import WORD, key_of, lowbias32

FAR_STEP = 0x85EBCA6B
"""Step of the key from one group of 2**32 elements to the next."""


def bits(stream: int | Tensor, draw: int, slot: int, shape: tuple[int, ...], device: torch.device | str) -> Tensor:
    """Return 32 random bits for each element, as int64; those of different elements are independent.

    Args:
        stream: what a rule gets as ``stream``, the parameter's stream. For a stack of parameters it is a vector, with a
            stream for each index of the first dimension.
        draw: the number of the draw, such as a step count.
        slot: the number of the tensor among those of one draw.
        shape: the shape, with the stack's dimension if there is one.
        device: where they are made.
    """
    key: Any
    if isinstance(stream, Tensor):
        own = shape[stream.dim() :]
        key = key_of(0, stream.to(device) + draw, slot + 1).view(*stream.shape, *(1,) * len(own))
    else:  # integers of Python, which are hashed sooner than tensors of one number
        own, key = shape, key_of(0, stream + draw, slot + 1)  # the hash of 0 is 0
    places = torch.arange(1, math.prod(own) + 1, device=device).view(own)
    hashed: Tensor = lowbias32(lowbias32(places) + key + (places >> 32) * FAR_STEP)
    return hashed


def uniform(
    stream: int | Tensor, draw: int, shape: tuple[int, ...], *, device: torch.device | str, slot: int = 0
) -> Tensor:
    """Return float64 numbers that are uniform between 0 and 1, and neither; see `bits`."""
    return (bits(stream, draw, slot, shape, device).double() + 0.5) / (WORD + 1)


def normal(
    stream: int | Tensor, draw: int, shape: tuple[int, ...], *, device: torch.device | str, slot: int = 0
) -> Tensor:
    """Return float64 numbers of the standard normal distribution, by Box and Muller; see `bits`."""
    length = torch.sqrt(-2 * torch.log(uniform(stream, draw, shape, device=device, slot=2 * slot)))
    return length * torch.cos(2 * math.pi * uniform(stream, draw, shape, device=device, slot=2 * slot + 1))
