"""What pictures and texts are worth for items that nobody has seen yet: a shop of drawn pictures, whose shoppers care
for what is on them. drawing.py makes the pictures, world.py the shop, visits.py lets shoppers visit it, arms.py trains
and compares, plot.py shows what the encoder groups, command.py is `headgate bench cold-start`."""
