"""`headgate demo`: everything on this machine, from nothing to live alerts in under a minute.

run.py is the course of the demo, readings.py what it reads from outside (the worker's metrics, Redis, SQL), view.py
how that looks on a terminal. The worker is the ordinary `headgate worker` as a process of its own; nothing here is on
its path.
"""
