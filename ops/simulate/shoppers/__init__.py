"""Simulated shoppers: people with tastes who look at slates of items, for `headgate simulate shoppers` and the demo.

words.py and catalogue.py say what there is to buy, people.py who buys and what they like, responses.py how likely
somebody clicks, likes or buys, memory.py what a shopper carries from one visit to the next, and visits.py makes
visits out of all that. traffic.py lays them out in time, as a history or live; policies.py chooses slates by simple
rules, to compare with. slates.py reads the slates of a running service, output.py and kafka.py send what happened;
options.py is what a user may ask for, command.py the body of the command. Nothing here knows of the service's models.
"""
