"""Algorithms on arrays, independent of problems: isotonic regression, functions of spectra, working sets."""
