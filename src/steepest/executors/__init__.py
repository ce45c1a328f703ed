"""Executors: ways to run one program over many parameters. Each takes a `Batch` and writes its results in place."""
