"""Probabilistic programs and their inference. What its systems share stands in modules here."""
