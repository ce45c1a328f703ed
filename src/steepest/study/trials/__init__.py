"""One training run: its specification, its task, its steps and its checkpoints. A trial does not depend on a study."""
