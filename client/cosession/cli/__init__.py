"""The command line: one module per verb or family of verbs, loaded when it is called for.

A word typed goes `main` (finds the verb) -> `options` (reads the arguments) -> the verb's module -> `line` (one
question over the socket, for everything that is one question; `following` for `watch`, which lasts) -> `render` (for
people) or `data` (for programs). Only the demo uses the library.

Rule: nothing here knows the daemon but by its socket, and the fast verbs load the standard library's C parts only;
`tests/cli/test_imports.py` holds the list.
"""
