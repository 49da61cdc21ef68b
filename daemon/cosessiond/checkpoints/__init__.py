"""Checkpoints: what a session saves of its work, kept so that another can go on from it."""
