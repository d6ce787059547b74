"""`headgate demo`: everything on this machine, from nothing to live alerts and recommendations in under a minute.

run.py is the course of the demo; shop.py has its shoppers, teacher.py and lesson.py retrain the recommender meanwhile.
readings.py and shop_readings.py are what it reads from outside (the worker's metrics, Redis, SQL), view.py how that
looks on a terminal. The worker is the ordinary `headgate worker` as a process of its own; nothing here is on its path.
"""
