"""A small transformer that predicts the next character."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from steepest.study.data import text
from steepest.study.declaration import Workload, workload
from steepest.study.workloads._characters import BITS, SIZES, loss


class Attention(nn.Module):
    """Causal self-attention of several heads (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        """Return (windows, characters, width), as given; a character sees those before it and itself."""
        heads = self.projections(states).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(queries, keys, values, is_causal=True)
        joined: Tensor = self.output(mixed.transpose(1, 2).flatten(-2))
        return joined


class Block(nn.Module):
    """Attention and a perceptron, each normalised before and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, states: Tensor) -> Tensor:
        """Return (windows, characters, width), as given."""
        attended = states + self.attention(states)
        perceived: Tensor = attended + self.perceptron(attended)
        return perceived


class CharTransformer(nn.Module):
    """Pre-norm blocks between learned positions and scores; as a workload has it 136,960 parameters.

    Args:
        width: numbers per character between the blocks.
        heads: attention heads in a block; they divide `width`.
        layers: blocks.
        window: the most characters that it reads at once.
    """

    def __init__(self, width: int = 64, heads: int = 4, layers: int = 2, window: int = text.WINDOW) -> None:
        super().__init__()
        self.symbols = nn.Embedding(text.SYMBOLS, width)
        self.positions = nn.Embedding(window, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)), nn.LayerNorm(width))
        self.scores = nn.Linear(width, text.SYMBOLS, bias=False)

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
