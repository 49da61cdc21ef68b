"""What makes the daemon one well-behaved process: its directories, its lock, its log, its way into the background."""
