"""The program of a page that draws with a library and with samplerd: prints both samples as one JSON object.

Run with the program's text, and with the folders of samplerd's client and of its stubs.
"""

import json
import sys

text, *folders = sys.argv[1:]
sys.path[:0] = folders

names = {}
exec(compile(text, "a page of the docs", "exec"), names)  # the page is the repository's own
print(json.dumps({name: names[name].tolist() for name in ("theirs", "ours")}))
