"""The entry point of the command `steepest`: errors become one line on stderr and an exit code."""

import sys

from steepest.study import STUDY_PACKAGES


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        sys.exit(_run())
    except KeyboardInterrupt:  # while the packages were still being loaded
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in STUDY_PACKAGES:
            raise
        sys.exit(_fail(f'the command line and its studies need {error.name}: pip install "steepest[study]"', 1))


def _run() -> int:
    # Imported here, so that a missing package is reported by main and not by the import of this module.
    from steepest.cli.app import app
    from steepest.cli.encoding import let_no_letter_raise
    from steepest.study.errors import StudyError, UsageError

    let_no_letter_raise()
    try:
        app()
    except UsageError as error:
        return _fail(str(error), 2)
    except StudyError as error:
        return _fail(str(error), 1)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
