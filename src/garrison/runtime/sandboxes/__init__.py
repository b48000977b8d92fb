"""The ladder of isolation levels. Each is a `base.Sandbox`; `ladder.py` knows the order and the names."""
