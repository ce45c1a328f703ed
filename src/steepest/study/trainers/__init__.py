"""Trainers of other packages, whose loops report to a run. Their packages are imported only when one is used."""
