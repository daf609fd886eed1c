"""The command line ``headrace``: one module for each group of commands, see ``main``.

What people read is written with rich, what programs read (``--json``) is one JSON object, or one a line, on standard
output and nothing else. Results go to standard output; progress, remarks and errors go to standard error.
"""

from __future__ import annotations

__all__: list[str] = []
