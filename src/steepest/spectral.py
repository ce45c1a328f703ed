"""Eigenbases, singular vectors and bounds of stacks of matrices, with a way out where they cannot be found.

A matrix whose basis cannot be found, because it is not finite or an algorithm fails, keeps its old one; the others of
its stack get theirs. Every function says which matrices failed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

JITTER = 1e-30
"""Added to the diagonal before eigenvectors are looked for, so that those of zeros are the axes."""

Found = tuple[Tensor, Tensor]
"""A stack of results, and a stack of flags (..., 1, 1) for the matrices that failed, in the dtype of the results."""


def eigenbasis(A: Tensor, old: Tensor) -> Found:
    """Return the eigenvectors of each matrix in columns, the largest eigenvalue first.

    Args:
        A: (..., n, n), symmetric.
        old: (..., n, n), the bases that are kept where new ones cannot be found.
    """
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    return kept(_each(_vectors, A + JITTER * eye, old), old)


def _vectors(A: Tensor) -> Tensor:
    vectors: Tensor = torch.linalg.eigh(A).eigenvectors
    return vectors.flip(-1)


def power_step(A: Tensor, Q: Tensor) -> Found:
    """Return orthonormal bases one power iteration nearer to the eigenvectors: the columns of AQ made orthonormal."""
    return kept(torch.linalg.qr(A @ Q).Q, Q)


def leading(A: Tensor, old: Tensor) -> Found:
    """Return the left singular vectors of each matrix that have the largest singular values, in columns.

    The sign of a vector is free; it is the one with which the vector does not point away from the old one.

    Args:
        A: (..., n, m).
        old: (..., n, r), the vectors that are kept where new ones cannot be found.
    """
    new, failed = kept(_each(lambda A: torch.linalg.svd(A, full_matrices=False).U[..., : old.shape[-1]], A, old), old)
    is_turned = (new * old).sum(-2, keepdim=True) < 0
    return torch.where(is_turned, -new, new), failed


def inverse_root(A: Tensor, old: Tensor, power: float, eps: float) -> Found:
    """Return A to the power of ``-power`` of each matrix, after eps is added to its diagonal.

    Eigenvalues are then at least eps: where rounding has made one smaller, all are raised by the difference.

    Args:
        A: (..., n, n), symmetric and without negative eigenvalues but for rounding.
        old: (..., n, n), the results that are kept where new ones cannot be found.
        power: the exponent, positive.
        eps: what is added to the diagonal.
    """

    def root(A: Tensor) -> Tensor:
        eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        values, vectors = torch.linalg.eigh(A + eps * eye)
        lowest = values[..., :1]
        values = values + (eps - lowest).clamp(min=0)
        result: Tensor = (vectors * values.pow(-power).unsqueeze(-2)) @ vectors.mT
        return result

    return kept(_each(root, A, old), old)


def norm_bound(A: Tensor) -> Tensor:
    """Return a lower bound of each matrix's largest eigenvalue, (..., 1, 1): one power iteration, from its longest row.

    Args:
        A: (..., n, n), symmetric and without negative eigenvalues, n at least 1. That of zeros is 0.
    """
    tiny = torch.finfo(A.dtype).tiny
    top = A.abs().amax((-2, -1), keepdim=True).clamp(min=tiny)
    A = A / top  # so that squares neither overflow nor vanish
    place = A.square().sum(-1, keepdim=True).argmax(-2, keepdim=True)
    x = A.gather(-2, place.expand(*place.shape[:-1], A.shape[-1])) @ A
    x = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=tiny)
    bound: Tensor = torch.linalg.vector_norm(x @ A, dim=-1, keepdim=True) * top
    return bound


def kept(new: Tensor, old: Tensor) -> Found:
    """Return the new matrices, and the old one for each that is not finite."""
    failed = ~torch.isfinite(new).all(-1, keepdim=True).all(-2, keepdim=True)
    return torch.where(failed, old, new), failed.to(old.dtype)


def _each(function: Callable[[Tensor], Tensor], A: Tensor, old: Tensor) -> Tensor:
    """Apply a function to a stack at once; if that fails, to each matrix, in double; NaN stands for a failure."""
    try:
        return function(A)
    except RuntimeError:  # torch's LinAlgError is one
        each = zip(A.reshape(-1, *A.shape[-2:]), old.reshape(-1, *old.shape[-2:]), strict=True)
        results = [_alone(function, matrix, kept) for matrix, kept in each]
        return torch.stack(results).reshape(old.shape).to(old.dtype)


def _alone(function: Callable[[Tensor], Tensor], A: Tensor, old: Tensor) -> Tensor:
    try:
        return function(A.double())
    except RuntimeError:
        return torch.full_like(old, torch.nan, dtype=torch.float64)
