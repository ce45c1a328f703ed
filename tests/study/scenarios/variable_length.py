"""Sequences of different lengths, padded by a collate function, in batches of similar length."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Sampler

from steepest import study

Example = tuple[Tensor, int]


def sequences(seed: int, count: int) -> list[Example]:
    """Return sequences and whether most of their numbers are odd."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 12, (count,), generator=generator).tolist()
    drawn = [torch.randint(0, 10, (length,), generator=generator) for length in lengths]
    return [(one, int((one % 2).float().mean() > 0.5)) for one in drawn]


def padded(examples: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    drawn, wanted = zip(*examples, strict=True)
    lengths = torch.tensor([len(one) for one in drawn])
    return pad_sequence(list(drawn), batch_first=True), lengths, torch.tensor(wanted)


class SimilarLengths(Sampler[list[int]]):
    """Batches of sequences of similar length, in an order that is drawn anew for every pass."""

    def __init__(self, examples: list[Example], size: int, generator: torch.Generator) -> None:
        order = sorted(range(len(examples)), key=lambda index: len(examples[index][0]))
        self.batches = [order[start : start + size] for start in range(0, len(order), size)]
        self.generator = generator

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter([self.batches[n] for n in torch.randperm(len(self.batches), generator=self.generator).tolist()])


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 8)
        self.reads = nn.GRU(8, 12, batch_first=True)
        self.judges = nn.Linear(12, 2)

    def forward(self, drawn: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.words(drawn), lengths, batch_first=True, enforce_sorted=False)
        return self.judges(self.reads(packed)[1][0])


def accuracy(model: nn.Module, examples: list[Example]) -> float:
    with torch.no_grad():
        parts = [
            (model(drawn, lengths).argmax(dim=1) == wanted).float()
            for drawn, lengths, wanted in DataLoader(examples, batch_size=16, collate_fn=padded)
        ]
    return torch.cat(parts).mean().item()


@study.experiment(metric=study.Metric("accuracy", "maximize"), target=0.6, margin=0.02)
def odd(run: study.Run) -> None:
    """Sequences of different lengths."""
    examples = sequences(0, 80)
    batches = SimilarLengths(examples, 16, run.generator("order"))
    loader = DataLoader(examples, batch_sampler=batches, collate_fn=padded)
    model = Reader()
    optimizer = run.optimizer(model)
    for _ in run.epochs(4, keep={"model": model, "loader": loader}):
        for drawn, lengths, wanted in loader:
            loss = cross_entropy(model(drawn, lengths), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step(loss, examples=len(wanted))
        with run.evaluating():
            reached = accuracy(model, sequences(1, 40))
        run.validate(accuracy=reached)
    with run.evaluating("test"):
        reached = accuracy(model, sequences(2, 40))
    run.test(accuracy=reached)
