"""Statistics of studies: pure functions from plain numbers to frozen dataclasses; they know no plan and no store."""
