"""cosessiond: the daemon that owns the shared context of AI sessions. See `daemon/ARCHITECTURE.md`."""
