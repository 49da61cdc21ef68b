"""The daemon under a service manager: what is written for it, and how it is asked to start, stop and tell.

`place` says what of this installation is written down, `units` and `agent` make the text for systemd and launchd,
`manifest` is the list of what was written, `systemd` and `launchd` talk to the two through their own commands, and
`installing` puts it together. `starting` is the child that a client starts in place of a daemon.

Rule: a service manager that says nothing is waited for with an end; what it says is passed on with what to do.
"""
