"""`python -m cocoop`: the command, for launchers that start modules."""

from cocoop.cli import main

if __name__ == "__main__":
    main()
