"""The versioned context store: one write primitive (`engine.Batch`), one commit path, one history, one watch path.

Read in this order: `engine` (the words), `apply` (what a batch means), `sqlite` (where it becomes durable),
`commit` (the one thread), `revisions` (the store that everything above uses), `watch`, `leases`.
"""
