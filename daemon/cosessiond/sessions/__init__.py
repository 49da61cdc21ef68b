"""Sessions and their five-layer crash cascade: who is there, who is not any more, and how we know.

Read in this order: `verdict` (the rules, pure), `identity` (what a process is), `probes` and `watching` (looking at the
world), `records` (what is written), `admission` (who may register what), `view` (the records in memory), `liveness`
(deadlines and deaths), `registry` (the operations that everything above uses).
"""
