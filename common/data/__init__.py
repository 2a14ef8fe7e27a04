"""Data sets: reading their files, and what the arrays in them mean."""
