"""Scikit-learn's handwritten digits: 1,797 images of 8x8, inside the package, so they are always there."""

from functools import cache
from pathlib import Path

import torch
from torch.nn import functional

from steepest.study import seeds
from steepest.study.data.dataset import DataSet, Examples

TEST_EXAMPLES = 360  # a fifth; the data set comes undivided
BRIGHTEST = 16  # the images hold 0..16


def load(data_dir: Path | None = None) -> DataSet:
    """Return the digits as 8x8 images. They need no files, so `data_dir` is ignored."""
    del data_dir
    return _digits(8, None)


def stand_in(name: str, size: int, advice: str) -> DataSet:
    """Return the digits enlarged to size x size, for a workload whose own data cannot be obtained.

    The result never bears the missing data set's name, and its `fallback` says what happened.
    """
    sentence = (
        f"{name} was not found, so this study runs on 1,797 handwritten digits instead (scikit-learn's, enlarged to "
        f"{size}x{size}). Its figures say nothing about {name}. {advice}"
    )
    return _digits(size, sentence)


@cache
def _digits(size: int, fallback: str | None) -> DataSet:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.float32).unsqueeze(1) * (255 / BRIGHTEST)
    if size != images.shape[-1]:
        images = functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    everything = Examples(images.round().to(torch.uint8), torch.from_numpy(bunch.target).long(), 255.0)
    order = torch.randperm(len(everything), generator=seeds.generator("split", 2))
    train, test = order[TEST_EXAMPLES:].sort().values, order[:TEST_EXAMPLES].sort().values
    return DataSet(
        name="digits",
        source="scikit-learn",
        train=everything.at(train),
        test=everything.at(test),
        sha256={"digits": everything.fingerprint()},
        fallback=fallback,
    )
