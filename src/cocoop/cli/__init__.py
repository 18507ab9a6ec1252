"""The command `cocoop`: one file a group of commands."""

from cocoop.cli.main import main

__all__ = ["main"]
