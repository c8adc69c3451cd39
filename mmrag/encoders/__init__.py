"""Texts and pictures to vectors in one space."""
