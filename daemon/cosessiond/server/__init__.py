"""The socket side of the daemon: `listener` (I/O), `conversation` (one connection, no I/O), `table` and `handlers`."""
