"""Unusual use of models, noticed from the ledger's request events. Read `watch.py` first; text never comes here."""
