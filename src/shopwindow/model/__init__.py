"""Two towers over packed sequences: encode, train, keep, rank."""
