"""A study's curves in other tools: one interface, TensorBoard, MLflow and Weights & Biases behind it, users' own."""
