"""The stored files of a study, as the report reads them."""
