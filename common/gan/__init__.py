"""The chapter's GAN: batches, networks' parts, one alternating step, files."""
