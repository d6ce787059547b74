"""`headgate bench`: what the service achieves, measured beside others on the same machine; each prints its proof.

throughput.py is the command and the result. stage.py starts services, events and model; contestants.py says how each
contestant runs; measure.py follows its commits in SQL and checks what it stored. faust_peer.py, quix_peer.py and
bytewax_peer.py are the others' programs, peer.py what these have in common. scaling.py varies accounts, partitions
and workers; other modules are commands of their own, and what several of them use. docs/performance.md explains the
figures.
"""
