"""The chapter's GAN: data, networks' parts, one alternating step, files."""
