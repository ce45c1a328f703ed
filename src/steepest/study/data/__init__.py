"""The data that workloads train on: where it is found, how it is checked, how it is divided."""
