"""The version of the package: the one place where it is written (pyproject.toml and setup.py read it here)."""

__version__ = "0.2.0.dev0"
