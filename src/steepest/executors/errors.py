"""How an executor says that it cannot run something."""


class UnsupportedError(RuntimeError):
    """An executor cannot run these parameters exactly, or not on this machine. The message says why."""
