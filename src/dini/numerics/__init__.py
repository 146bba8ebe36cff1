"""Algorithms on arrays that know nothing of problems: isotonic regression, functions of spectra, working sets."""
