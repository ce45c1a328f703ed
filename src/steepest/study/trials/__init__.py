"""One training run: its specification, its task, its steps and its checkpoints. A trial knows nothing of studies."""
