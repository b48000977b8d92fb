"""Where rows and bytes rest: SQL, objects, counters."""
