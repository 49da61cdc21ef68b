"""The user's services as their service manager tells them: which there are, how each is, and what that comes to.

`finding` asks the service manager; `systemd` and `launchctl` read its answers; `judging` says what they mean; `endings`
puts exit codes and signals into words.

Rule: only `finding` runs a program; all others are pure functions of text.
"""
