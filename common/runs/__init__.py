"""A run: its history, its checkpoints, its folder."""
