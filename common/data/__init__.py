"""Data sets: the formats that they come in, and what the arrays in them mean."""
