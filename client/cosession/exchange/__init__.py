"""The policy of the client, without any I/O, shared by `sync` and `aio`: what to send, and what to do when it fails.

Read in this order, after `cosession.retries`: `calls` (one call through loss and retry), `presence` (what is said again
after a reconnect), `cursor` (a watch across reconnects), `verbs` (arguments to requests, replies to results).

Rule: decide, then do. Everything here is memory and tables; clocks and randomness are parameters.
"""
