"""What each method does, by subject; every module exports its `ROWS` of the operation table."""
