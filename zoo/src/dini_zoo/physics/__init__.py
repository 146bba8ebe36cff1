"""Differentiable physics and control. What its systems share stands in modules here."""
