"""Commands, one file each."""

from hwnas.cli.main import main

__all__ = ["main"]
