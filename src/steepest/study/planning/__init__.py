"""From a request to the trials of a study and its document. Only the dry run takes any training steps."""
