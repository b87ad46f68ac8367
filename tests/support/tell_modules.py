"""Run samplerd in this process and, at its end, write which modules it has imported, as a JSON list.

``python tests/support/tell_modules.py FILE PYTHON -m samplerd_server FLAGS...``: the last part is the command that runs
it otherwise.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from samplerd_server.__main__ import main

if __name__ == "__main__":
    file, _python, _m, _module, *flags = sys.argv[1:]
    code = main(flags)
    Path(file).write_text(json.dumps(sorted(sys.modules)), encoding="utf-8")
    sys.exit(code)
