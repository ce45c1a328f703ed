"""A recurrent network that predicts the next character."""

from typing import Final

from torch import Tensor, nn

from steepest.study.data import text
from steepest.study.declaration import Workload, workload
from steepest.study.workloads._characters import BITS, SIZES, loss

EMBEDDING: Final = 32
UNITS: Final = 128


class CharLSTM(nn.Module):
    """One layer of 128 long short-term memory units (Hochreiter and Schmidhuber 1997): 124,160 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(text.SYMBOLS, EMBEDDING)
        self.memory = nn.LSTM(EMBEDDING, UNITS, batch_first=True)
        self.scores = nn.Linear(UNITS, text.SYMBOLS)

    def forward(self, symbols: Tensor) -> Tensor:
        """Return scores of the next symbol, (windows, characters, symbols), for symbols (windows, characters)."""
        states, _ = self.memory(self.symbols(symbols))
        scores: Tensor = self.scores(states)
        return scores


# Targets: passed in single runs with the settings below; after how many epochs was not measured.
TARGETS: dict[str, tuple[float, ...]] = {
    "smoke": (6.0, 5.0, 4.7),
    "quick": (3.5, 3.0, 2.65),
    "full": (3.0, 2.5, 2.3),
}


@workload
def char_lstm(preset: str) -> Workload:
    """Text, character LSTM.

    The next character of the documentation that comes with Python (or of your text: `--data-dir FILE.txt`), by one
    layer of 128 LSTM units that reads windows of 64 from an empty memory. A character is a byte of UTF-8.
    """
    return Workload(
        data=text.load,
        network="LSTM of 128 units",
        model=CharLSTM,
        loss=loss,
        metric=BITS,
        batch_size=16,
        settings={
            "sgd": {"lr": 2.0},
            "nag": {"lr": 0.3, "momentum": 0.9},
            "rmsprop": {"lr": 0.005},
            "adam": {"lr": 0.02},
            "adamw": {"lr": 0.02, "weight_decay": 0.01},
        },
        target=TARGETS[preset],
        # about a hundredth of the last target of `full`
        margin=0.02,
        **SIZES[preset],
    )
