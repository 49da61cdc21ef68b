"""The audit: what the daemon judged, refused and was told to do, beside the history of changes."""
