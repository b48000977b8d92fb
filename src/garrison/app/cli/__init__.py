"""The command line: one module a group, each with `add(subparsers)` and `run(args) -> exit status`."""
