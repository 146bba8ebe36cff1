"""Bilevel learning: outer objectives over the solutions of inner ones. What systems share stands in modules here."""
