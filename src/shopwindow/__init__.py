"""shopwindow finds the product in the picture: learns, ranks, measures, searches.

docs/design.md names the rooms and which way they look; each verb of the command line composes them in `cli`.
Importing the package loads nothing heavy.
"""

__version__ = "0.2.0"
