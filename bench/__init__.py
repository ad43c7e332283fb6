"""Each claim of speed or quality in the README, as a command that measures it: `python -m bench.NAME`.

A bench prints what it measured beside what it compared with, in one run, since absolute times differ from machine to
machine and from hour to hour. It starts an engine of its own, with the model that `make setup` prepared.
"""
