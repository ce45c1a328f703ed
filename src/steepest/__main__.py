"""Entry point of ``python -m steepest``, which is the command `steepest`."""

from steepest.cli.main import main

if __name__ == "__main__":
    main()
