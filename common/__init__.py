"""What the chapter's two programs share, one module per concern."""
