"""Training of the image tower and of the fusion decoder."""
