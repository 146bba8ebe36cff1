"""What the operator splitting of quadratic programs is made of."""
