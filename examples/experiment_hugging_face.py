"""A Trainer of Hugging Face's transformers as an experiment: a small BERT, built from its configuration.

    pip install transformers accelerate
    steepest study examples/experiment_hugging_face.py -o adamw -o lion --trials 8 --seeds 10

It learns whether most words of a sentence are from the first half of its dictionary. Nothing is downloaded.
"""

import tempfile

import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification, EvalPrediction, Trainer, TrainingArguments

from steepest import study

EPOCHS = {"smoke": 3, "quick": 5, "full": 20}
SENTENCES = {"smoke": 64, "quick": 1_000, "full": 5_000}
WORDS = 10
LENGTH = 12


def sentences(count: int, seed: int) -> list[dict[str, Tensor]]:
    """Return sentences of word numbers, and whether most are from the first half of the dictionary."""
    words = torch.randint(0, WORDS, (count, LENGTH), generator=torch.Generator().manual_seed(seed))
    labels = ((words < WORDS / 2).float().mean(dim=1) > 0.5).long()
    return [{"input_ids": one, "labels": label} for one, label in zip(words, labels, strict=True)]


def accuracy(predicted: EvalPrediction) -> dict[str, float]:
    """Return the share of sentences that are classified as they should be."""
    return {"accuracy": float((predicted.predictions.argmax(axis=1) == predicted.label_ids).mean())}


@study.experiment(metric=study.Metric("accuracy", "maximize"), target=(0.7, 0.9), margin=0.01)
def finetune(run: study.Run) -> None:
    """A small BERT that counts words."""
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForSequenceClassification(BertConfig(vocab_size=WORDS, max_position_embeddings=LENGTH, **size))
    train, validation, test = (sentences(SENTENCES[run.preset], seed) for seed in range(3))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=EPOCHS[run.preset],
            per_device_train_batch_size=16,
            eval_strategy="epoch",
            report_to="none",
            use_cpu=run.device.type == "cpu",
            bf16=run.precision == "bf16",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(model, arguments, train_dataset=train, eval_dataset=validation, compute_metrics=accuracy)
        run.hugging_face_trainer(trainer)
        trainer.train()
        figures = trainer.evaluate(test, metric_key_prefix="test")
        run.test(accuracy=figures["test_accuracy"], loss=figures["test_loss"])
