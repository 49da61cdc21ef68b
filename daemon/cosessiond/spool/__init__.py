"""The spool: calls that clients left as files, taken in exactly once, and what else lies there put aside."""
