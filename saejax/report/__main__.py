"""The command line: makes figures and page of one workdir again."""

import sys

from saejax.report import write


def main() -> None:
    """Prints the page's path, or one line that says what is wrong."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m saejax.report WORKDIR")
    try:
        print(write(sys.argv[1]))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the run itself is untouched")


if __name__ == "__main__":
    main()
