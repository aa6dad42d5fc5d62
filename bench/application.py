"""An application's process: ``python -m bench.application MODULE:FUNCTION ARGUMENTS``, its result in JSON."""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """Call the function with keyword arguments from JSON; the last line of output is its result."""
    module, _, function = sys.argv[1].partition(":")
    result = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
    print(f"\n{json.dumps(result)}")


main()
