"""`headgate bench recommendation`: the recommender in public simulators, beside the baselines that others published.

command.py is the command and its table; each other module is one part, or what one part needs. simulators.py brings in
packages that were written for libraries of their time. docs/recommendation-benchmark.md explains the figures.
"""
