"""Training: the loop, its engines, its callbacks."""
