"""The promise on numbers: trajectories of every optimizer, kept from version to version."""
