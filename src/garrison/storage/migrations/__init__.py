"""The one history of the schema. Each step works with the previous release: expand, migrate, contract."""
