"""Recovery: what one session takes over from another that died."""
