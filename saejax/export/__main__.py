"""The command line: `python -m saejax.export WORKDIR --format=FORMAT`."""

from saejax.export.command import main

if __name__ == "__main__":
    main()
