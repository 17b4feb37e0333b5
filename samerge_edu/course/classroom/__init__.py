"""What somebody needs who teaches with the notebooks.

plans.py     three plans for a room as data (plans.toml), their minutes, and notebooks reduced to them
needs.py     which cells of a notebook others need: names that are set, changed and used
"""
