"""Adapters with the packages that they go into. `make adapters` installs these into an environment of their own."""
