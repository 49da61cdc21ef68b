"""When backups are made, kept and dropped; how they lie on the disk is `store.backup`."""
