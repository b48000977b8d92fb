"""Receivers of the ledger's events elsewhere: what each is, how it takes records, and how far it has them."""
