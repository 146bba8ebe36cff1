"""Other libraries' names over this house."""

from . import jaxopt

__all__ = ["jaxopt"]
