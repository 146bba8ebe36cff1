"""Diffusions and flows: what turns noise into data. What its systems share stands in modules here."""
