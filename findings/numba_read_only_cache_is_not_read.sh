#!/usr/bin/env bash
# numba 0.68.1: a complete cache that can only be read is not read.
#
# Input: a function with cache=True in a package whose __pycache__ holds its machine code, as an image or another user's
# installation ships it; the same two calls, with the folder writable and read-only.
# Expected: the code is loaded both times: reading a cache needs no right to write it, as with Python's own .pyc files
# beside it.
# Seen: with the read-only folder the function is compiled again in every process, and saved in the user's folder of
# caches; with no such folder, importing the module raises "cannot cache function: no locator available". Each locator
# (numba/core/caching.py, ensure_cache_path) writes a temporary file to find out whether its folder may be used at all.
#
# Permissions count here even as root, whose right to ignore them is given up first. Exits 0 while this is so, and 1 once
# it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numba==0.68.1 llvmlite==0.50.0 numpy==2.4.6
mkdir "$folder/package"
cat >"$folder/package/shipped.py" <<'PYTHON'
import numba


@numba.njit(cache=True)
def double(x):
    return x * 2
PYTHON
cat >"$folder/use.py" <<'PYTHON'
import ctypes
import sys


def obey_permissions():
    """Drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of this thread, with which root ignores permissions."""
    libc = ctypes.CDLL(None)
    header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, rights) == 0
    rights[0] &= ~0b110
    assert libc.capset(header, rights) == 0


obey_permissions()
sys.path.insert(0, sys.argv[1])
try:
    from shipped import double
except RuntimeError as error:
    print(str(error).partition(" for file")[0].partition(" <")[0])
else:
    double(21)
    print("compiled" if double.stats.cache_misses else "loaded")
PYTHON
use() { env -u XDG_CACHE_HOME -u NUMBA_CACHE_DIR PYTHONDONTWRITEBYTECODE=1 HOME="$1" "$folder/venv/bin/python" \
	"$folder/use.py" "$folder/package"; }
"$folder/venv/bin/python" -c "import numba; print('numba', numba.__version__)"
seen=("$(use /dev/null)" "$(use /dev/null)")
chmod a-w "$folder/package/__pycache__" "$folder/package"
seen+=("$(use "$folder/home")" "$(use /dev/null)")
echo "writable folder: ${seen[0]}, then ${seen[1]}"
echo "read-only folder, complete: ${seen[2]}"
echo "read-only folder, complete, and no home: ${seen[3]}"
[[ "${seen[*]:0:3}" == "compiled loaded compiled" && "${seen[3]}" == "cannot cache function"* ]] || {
	echo "a complete cache that can only be read is read now: this finding is out of date" >&2
	exit 1
}
