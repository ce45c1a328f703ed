"""Statistics of studies: pure functions from plain numbers to frozen dataclasses, independent of plans and files."""
