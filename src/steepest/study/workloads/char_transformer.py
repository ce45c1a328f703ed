"""A small transformer that predicts the next character."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from steepest.study.data import text
from steepest.study.declaration import Workload, workload
from steepest.study.workloads._characters import BITS, SIZES, loss

WIDTH: Final = 64
HEADS: Final = 4
LAYERS: Final = 2


class Attention(nn.Module):
    """Causal self-attention of several heads (Vaswani et al. 2017, section 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.projections = nn.Linear(WIDTH, 3 * WIDTH)
        self.output = nn.Linear(WIDTH, WIDTH)

    def forward(self, states: Tensor) -> Tensor:
        """Return (windows, characters, WIDTH), as given; a character sees those before it and itself."""
        heads = self.projections(states).unflatten(-1, (3, HEADS, WIDTH // HEADS))
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(queries, keys, values, is_causal=True)
        joined: Tensor = self.output(mixed.transpose(1, 2).flatten(-2))
        return joined


class Block(nn.Module):
    """Attention and a perceptron, each normalised before and added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(WIDTH), Attention())
        self.perceptron = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, states: Tensor) -> Tensor:
        """Return (windows, characters, WIDTH), as given."""
        attended = states + self.attention(states)
        perceived: Tensor = attended + self.perceptron(attended)
        return perceived


class CharTransformer(nn.Module):
    """Two blocks of width 64 with four heads, learned positions: 136,960 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(text.SYMBOLS, WIDTH)
        self.positions = nn.Embedding(text.WINDOW, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH))
        self.scores = nn.Linear(WIDTH, text.SYMBOLS, bias=False)

    def forward(self, symbols: Tensor) -> Tensor:
        """Return scores of the next symbol, (windows, characters, symbols), for symbols (windows, characters)."""
        positions = torch.arange(symbols.shape[1], device=symbols.device)
        states = self.blocks(self.symbols(symbols) + self.positions(positions))
        scores: Tensor = self.scores(states)
        return scores


# Targets: passed in single runs with the settings below; after how many epochs was not measured.
TARGETS: dict[str, tuple[float, ...]] = {
    "smoke": (6.0, 5.0, 4.7),
    "quick": (4.0, 3.6, 3.25),
    "full": (3.0, 2.5, 2.3),
}


@workload
def char_transformer(preset: str) -> Workload:
    """Text, character transformer.

    The next character of the documentation that comes with Python (or of your text: `--data-dir FILE.txt`), from the
    up to 64 before it. Two pre-norm transformer blocks of width 64 with four heads. A character is a byte of UTF-8.
    """
    return Workload(
        data=text.load,
        network="transformer, 2 blocks of width 64",
        model=CharTransformer,
        loss=loss,
        metric=BITS,
        batch_size=16,
        settings={
            "sgd": {"lr": 0.5},
            "nag": {"lr": 0.1, "momentum": 0.9},
            "rmsprop": {"lr": 0.003},
            "adam": {"lr": 0.01},
            "adamw": {"lr": 0.01, "weight_decay": 0.1},
        },
        target=TARGETS[preset],
        # about a hundredth of the last target of `full`
        margin=0.02,
        **SIZES[preset],
    )
