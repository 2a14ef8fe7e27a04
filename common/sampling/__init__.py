"""Drawing with a trained generator, and exporting it."""
