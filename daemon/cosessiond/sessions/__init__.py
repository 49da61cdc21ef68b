"""Sessions and their five-layer crash cascade: who is there, who is not any more, and how we know.

Read in this order: `verdict` (the rules, pure), `procs` and `identity` (what a process is), `probes` (looking at the
world), `watching` (being told of deaths, by `pidfd` or `kqueue` behind the port `notifying`), `records` and `planning`
(what is written), `admission` and `authority` (who may), `view` (the records in memory), `liveness` (deadlines and
deaths), `registry` (the operations that everything above uses).
"""
