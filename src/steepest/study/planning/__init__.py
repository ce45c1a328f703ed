"""From a request to the trials of a study and its document. Nothing is trained here but the dry run's single steps."""
