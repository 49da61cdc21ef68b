"""Claims: leases on files, globs and named resources, and who may hold what beside whom."""
