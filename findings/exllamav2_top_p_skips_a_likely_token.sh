#!/usr/bin/env bash
# ExLlamaV2 0.3.2: top_p drops the second most likely token and keeps the third.
#
# Input: probabilities 0.4, 0.3, 0.2, 0.1; top_p 0.65.
# Expected: the most likely tokens up to a mass of 0.65: 0.4 and 0.3, tokens 0 and 1 (or, if the mass must not be passed,
# token 0 alone).
# Seen: tokens 0 and 2. top_p_cpu (exllamav2_ext/cpp/sampling.cpp) reads the tokens in the order of their ids into a heap,
# and throws out the smallest as soon as the sum passes top_p: token 1 takes it to 0.7 and goes, token 2 takes it to 0.6 and
# stays. What is kept depends on the ids, and its mass stays below top_p.
#
# Its sampler is C++ for the CPU: some files of it are compiled by themselves. Exits 0 while this is so, and 1 once it has
# changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps exllamav2==0.3.2
source=$("$folder/venv/bin/python" -c "from importlib.metadata import distribution as d
print(d('exllamav2').locate_file('exllamav2/exllamav2_ext/cpp'))")
cat >"$folder/shim.cpp" <<'CPP'
#include "sampling.h"
extern "C" int top_p(int count, float* probs, int* ids, float p) { return top_p_cpu(count, probs, ids, p); }
CPP
g++ -O2 -std=c++17 -w -fPIC -shared -I"$source" "$folder/shim.cpp" "$source"/sampling.cpp "$source"/sampling_avx2.cpp \
	"$source"/profiling.cpp -o "$folder/sampler.so"
"$folder/venv/bin/python" - "$folder/sampler.so" <<'PYTHON'
import ctypes
import sys
from importlib.metadata import version

top_p = ctypes.CDLL(sys.argv[1]).top_p
top_p.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float]


def kept(probabilities, p):
    """Ids that are left."""
    count = len(probabilities)
    probs, ids = (ctypes.c_float * count)(*probabilities), (ctypes.c_int * count)(*range(count))
    return sorted(ids[: top_p(count, probs, ids, p)])


print(f"ExLlamaV2 {version('exllamav2')}, top_p 0.65")
for probabilities in ([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]):
    print(f"probabilities {probabilities}: tokens {kept(probabilities, 0.65)} are kept")
is_so = kept([0.4, 0.3, 0.2, 0.1], 0.65) == [0, 2]
raise SystemExit(0 if is_so else "the most likely tokens are kept now: this finding is out of date")
PYTHON
