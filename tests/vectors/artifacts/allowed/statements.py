"""Runs a script statement by statement and goes on after one that fails: `statements.py SCRIPT FOLDER`."""

import ast
import sys

src = open(sys.argv[1]).read()
sys.argv = sys.argv[1:]
g = {"__name__": "gen"}
for node in ast.parse(src).body:
    try:
        exec(compile(ast.Module([node], []), sys.argv[0], "exec"), g)
    except Exception as error:
        print(node.lineno, repr(error)[:150], file=sys.stderr)
