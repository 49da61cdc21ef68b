"""`cosession debug`: looking into a running daemon through its own socket, and at what passes there.

Rule: looking changes nothing; what does (`loglevel`, `trace`) says for how long, and ends by itself. Nothing here
starts a daemon, and nothing waits without an end but what is to be ended with Ctrl-C.
"""
