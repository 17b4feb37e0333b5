"""The figures of the notebooks, one module a notebook: a cell shows the idea, the drawing is here.

A function draws what it is given and returns (figure, sentence); the sentence comes from the same data. Numbers that a
lesson speaks of are computed in its cells, where they can be read.
"""
