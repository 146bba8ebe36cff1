"""Bilevel learning: outer objectives over the solutions of inner ones. What its systems share stands in modules here."""
