"""`headgate bench faults`: what happens to two workers under load when something breaks, checked from outside.

command.py is the command, schedule.py the order of faults, rounds.py one round and its result. world.py is what is
under test: deployment.py and worker_process.py drive the product as its users do, load.py and traffic.py send,
promotions.py and contenders.py have models change. injections.py and outages.py are the faults; moments.py and
worker.py let a worker die at a named point. The check is audit.py: evidence.py reads topics (topic_log.py), SQL and
Redis; outcomes.py, publications.py and reference.py judge; watch.py looks on all the while. bugs.py plants mistakes
that the check must find. Tests use the same parts. docs/reliability.md explains the figures.
"""
