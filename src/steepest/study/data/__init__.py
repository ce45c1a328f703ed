"""The data that workloads train on: finding, checking and dividing them."""
