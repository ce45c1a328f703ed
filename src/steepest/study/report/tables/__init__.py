"""The report's tables: cells under columns, and their four writings."""
