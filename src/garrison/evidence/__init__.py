"""The append-only ledger and the views folded from it."""
