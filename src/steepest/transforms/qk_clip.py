"""QK-clip: query and key weights that shrink, head by head, where the logits of attention have grown too large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

Place = Tensor | str
"""A parameter, or its name."""

Attention = Place | tuple[Place, Place]
"""Query and key weights: a pair, or one parameter with the rows of queries, keys and values."""


class AttentionClipping:
    """The part of an optimizer that clips query and key weights after a step."""

    param_groups: list[dict[str, Any]]
    evaluates_others: ClassVar[bool]

    @torch.no_grad()
    def clip_qk(self, logits: Mapping[Attention, Tensor], *, tau: float = 100.0, alpha: float = 0.5) -> None:
        """Scale the query and key weights of every head whose largest logit was above ``tau``; call it after `step`.

        A head with the largest logit S > τ gets γ = τ/S: its query weights are multiplied by γ^α and its key weights by
        γ^(1 - α), so that its logits on that batch are at most τ. Of query heads that share a key head (grouped-query
        attention), the key takes the least γ; ``alpha=1`` leaves shared keys as they are. Other heads keep every bit.
        Biases are entries of their own, with the weights' logits.

        Source: Kimi team 2025, "Kimi K2", arXiv:2507.20534, section 2.1 (MuonClip).

        Example:
            >>> from steepest import Muon
            >>> attention = torch.nn.MultiheadAttention(8, 2, bias=False)
            >>> optimizer = Muon(attention.named_parameters(), lr=0.02)
            >>> optimizer.clip_qk({"in_proj_weight": torch.tensor([50.0, 400.0])})  # the second head, by 1/2 each

        Args:
            logits: the largest logit before the softmax, for each query head: a vector over all examples, positions,
                parts of a batch and ranks since the last step. Keys are pairs of query and key parameters, or single
                parameters with equal parts for queries, keys and values, as `torch.nn.MultiheadAttention` has. A
                parameter may stand for itself or as its name. Rows of a parameter are its first dimension.
            tau: the largest logit allowed, τ.
            alpha: the share of queries in the scaling, from 0 to 1.

        Raises:
            ValueError: an unknown name, a number of heads that does not fit the rows, or a logit that is not finite.
            RuntimeError: the optimizer makes the parameters anew from other weights at each step (Schedule-Free).
        """
        if self.evaluates_others:
            raise RuntimeError(
                f"clip_qk scales the parameters, which {type(self).__name__} makes anew from other weights at its next "
                "step; use an optimizer without two sets of weights"
            )
        if not tau > 0 or not 0 <= alpha <= 1:
            raise ValueError(f"clip_qk takes tau > 0 and 0 <= alpha <= 1, not tau={tau!r} and alpha={alpha!r}")
        scaled = [
            (rows, factors)
            for place, largest in logits.items()
            for rows, factors in self._shares(place, largest, tau, alpha)
        ]
        for rows, factors in scaled:
            rows.mul_(factors.to(rows))

    def _shares(self, place: Attention, largest: Tensor, tau: float, alpha: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the query rows and the key rows of one attention, by head, with a factor for each head."""
        what, query, key = self._query_and_key(place)
        if largest.dim() != 1 or not largest.numel():
            raise ValueError(
                f"logits of {what} have shape {tuple(largest.shape)}; give one number for each query head, the largest "
                "over examples and positions"
            )
        if not bool(largest.isfinite().all()):
            raise ValueError(f"logits of {what} are not finite; leave out the clip of a step whose forward pass failed")
        count = largest.numel()
        size = query.shape[0] // count
        if not size or query.shape[0] % count:
            raise ValueError(
                f"logits of {what} are of {count} heads, which do not divide its {query.shape[0]} query rows"
            )
        shared, rest = divmod(key.shape[0], size)
        if not shared or rest or count % shared:
            raise ValueError(
                f"logits of {what} are of {count} heads of {size} rows, which do not fit its {key.shape[0]} key rows; "
                "a key head has as many rows, and serves equally many query heads"
            )
        gamma = torch.where(largest > tau, tau / largest.double(), 1.0)
        of_keys = gamma.view(shared, count // shared).amin(1)
        for weight, heads, factors in ((query, count, gamma**alpha), (key, shared, of_keys ** (1 - alpha))):
            rows = weight.view(heads, size, *weight.shape[1:])
            yield rows, factors.view(-1, *[1] * (rows.dim() - 1))

    def _query_and_key(self, place: Attention) -> tuple[str, Tensor, Tensor]:
        """Return words for an attention, its query rows and its key rows."""
        if isinstance(place, tuple):
            query, key = map(self._parameter, place)
            return f"{_name(place[0])} and {_name(place[1])}", query, key
        whole = self._parameter(place)
        if whole.shape[0] % 3:
            raise ValueError(
                f"{_name(place)} has {whole.shape[0]} rows, which are not equal parts of queries, keys and values; "
                "give the pair of its query and key parameters"
            )
        query, key, _ = whole.chunk(3)
        return _name(place), query, key

    def _parameter(self, place: Place) -> Tensor:
        """Return the data of a parameter of this optimizer."""
        for group in self.param_groups:
            for index, p in enumerate(group["params"]):
                name = group["param_names"][index] if "param_names" in group else None
                if p is place or (name is not None and name == place):
                    found: Tensor = p.detach()
                    return found
        raise ValueError(
            f"clip_qk: this optimizer has no parameter {_name(place)}; names are known to optimizers made with "
            "model.named_parameters() or for_model"
        )


def _name(place: Place) -> str:
    return repr(place) if isinstance(place, str) else f"a parameter of shape {tuple(place.shape)}"
