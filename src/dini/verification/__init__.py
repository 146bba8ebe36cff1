"""What a result is held against once it is found."""
