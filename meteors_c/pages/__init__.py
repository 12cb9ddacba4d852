"""Report pages: results as one HTML file that works without a network, and what notebooks show of an object."""

from meteors_c.pages._write import write, write_maps

__all__ = ["write", "write_maps"]
