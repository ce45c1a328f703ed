"""A small GPT in a loop of its own: batches are dicts, and the model returns its loss.

    steepest study examples/experiment_gpt.py -o adamw -o lion --trials 8 --seeds 10

It learns to write sums of two numbers, such as "27+8=35;".
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.data import DataLoader

from steepest import study

SYMBOLS = "0123456789+=;"
LENGTH = 32
WIDTH = 32
EPOCHS = {"smoke": 3, "quick": 10, "full": 30}
WINDOWS = {"smoke": 80, "quick": 1_000, "full": 4_000}

Batch = dict[str, Tensor]


class Block(nn.Module):
    """Attention to the symbols before, then a layer for each symbol."""

    def __init__(self, heads: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.mixes = nn.Linear(WIDTH, 3 * WIDTH)
        self.joins = nn.Linear(WIDTH, WIDTH)
        self.layers = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return x after the block, in the same shape."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.mixes(self.norms[0](x)).chunk(3, dim=-1)
        )
        seen = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.joins(seen.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.layers(self.norms[1](x)))


class GPT(nn.Module):
    """Two blocks. Its output is the mean loss of predicting each symbol from those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(len(SYMBOLS), WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(Block(), Block(), nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, len(SYMBOLS))

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch of shape (windows, LENGTH)."""
        x = self.symbols(tokens) + self.places.weight
        return cross_entropy(self.head(self.blocks(x)).flatten(0, 1), labels.flatten())


def windows(count: int, seed: int, device: torch.device) -> list[Batch]:
    """Return pieces of a text of sums, each with the symbols that follow."""
    numbers = torch.randint(0, 100, (count * LENGTH, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    text = "".join(f"{a}+{b}={a + b};" for a, b in numbers)
    symbols = torch.tensor([SYMBOLS.index(symbol) for symbol in text[: count * LENGTH + 1]], device=device)
    pieces = (symbols[start : start + LENGTH + 1] for start in range(0, count * LENGTH, LENGTH))
    return [{"tokens": piece[:-1], "labels": piece[1:]} for piece in pieces]


def perplexity(model: GPT, batches: DataLoader[Batch]) -> float:
    """Return the exponential of the mean loss."""
    model.eval()
    with torch.no_grad():
        losses = torch.stack([model(**batch) for batch in batches])
    model.train()
    return losses.mean().exp().item()


@study.experiment(metric=study.Metric("perplexity", "minimize"), target=(8.0, 5.2, 4.9), margin=0.05)
def sums(run: study.Run) -> None:
    """A small GPT that writes sums."""
    count = WINDOWS[run.preset]
    loader = DataLoader(windows(count, 0, run.device), batch_size=16, shuffle=True)
    validation, test = (DataLoader(windows(count // 4, seed, run.device), batch_size=count // 4) for seed in (1, 2))
    model = GPT().to(run.device)
    optimizer = run.optimizer(model)
    for _ in run.epochs(EPOCHS[run.preset], keep={"model": model, "loader": loader}):
        for batch in loader:
            with run.autocast():
                loss = model(**batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss, examples=len(batch["tokens"]))
        with run.evaluating():
            reached = perplexity(model, validation)
        run.validate(perplexity=reached)
    with run.evaluating("test"):
        reached = perplexity(model, test)
    run.test(perplexity=reached)
