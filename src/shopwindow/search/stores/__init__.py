"""Where may the products of a search lie? In local files, or in a database that a shop already runs.

`protocol.py` says what the engine asks of a store. `local.py` asks an index on disk, `database.py` any database.
Each database is one file.
"""
