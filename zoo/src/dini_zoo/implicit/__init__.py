"""Implicit differentiation: experiments on what it is worth. What they share stands in modules of this folder."""
