"""What somebody needs who teaches with the notebooks.

plans.py   three plans as data (plans.toml), the minutes that their stops need, and a notebook reduced to a plan
needs.py   which cells of a notebook the others need: names that are set, changed and used
"""
