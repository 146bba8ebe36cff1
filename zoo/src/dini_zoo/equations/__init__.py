"""Neural differential equations, on diffrax. What its systems share stands in modules here."""
