"""What is done on the files of the store while no daemon runs: one module per act, run as `python -m cosessiond ACT`.

Rule: an act that changes anything holds the daemon's lock meanwhile; after a crash of any of them, at any moment, the
next start finds a store that is whole.
"""
