"""Simulated card traffic with labelled frauds, for the demo, tests, benches and `headgate simulate`.

population.py has who pays whom and how, background.py their honest payments, scenarios.py the frauds; cards.py joins
them to a history, live.py continues it in real time, labels.py says what becomes known when. output.py writes files,
kafka.py produces to topics; options.py is what a user may ask for, command.py the body of the command. Everything is
vectorised in numpy and follows from a seed. Nothing here knows of models or Redis, or speaks SQL.
"""
