#!/usr/bin/env bash
# ExLlamaV2 0.3.2: XTC keeps the top choice and drops the rare tokens.
#
# Input: probabilities 0.05, 0.5, 0.05, 0.4; xtc_threshold 0.15, xtc_probability 1.
# Expected: XTC excludes top choices, all tokens at the threshold but the least likely of them: the token of 0.5 goes, and
# 0.4 stays with the two rare ones.
# Seen: the token of 0.5 stays, and the two rare tokens, which are below the threshold, are gone. xtc_cpu
# (exllamav2_ext/cpp/sampling.cpp) tests temp_probs[i + 1] where it means temp_probs[i], so that a token goes if its neighbour is likely, and it compares an index with a probability
# (i != min_prob) where it means to spare the least likely.
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
extern "C" int xtc(int count, float* probs, int* ids, bool* may_go, float probability, float threshold) {
  return xtc_cpu(count, probs, ids, may_go, probability, threshold);
}
CPP
g++ -O2 -std=c++17 -w -fPIC -shared -I"$source" "$folder/shim.cpp" "$source"/sampling.cpp "$source"/sampling_avx2.cpp \
	"$source"/profiling.cpp -o "$folder/sampler.so"
"$folder/venv/bin/python" - "$folder/sampler.so" <<'PYTHON'
import ctypes
import sys
from importlib.metadata import version

xtc = ctypes.CDLL(sys.argv[1]).xtc
xtc.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 3, *[ctypes.c_float] * 2]


def after(probabilities):
    """Probabilities after XTC; a zero stands behind the last, since it reads one further."""
    count = len(probabilities)
    probs, ids = (ctypes.c_float * (count + 1))(*probabilities, 0.0), (ctypes.c_int * count)(*range(count))
    xtc(count, probs, ids, (ctypes.c_bool * count)(*[True] * count), 1.0, 0.15)
    return [round(p, 3) for p in probs[:count]]


print(f"ExLlamaV2 {version('exllamav2')}, xtc_threshold 0.15, xtc_probability 1")
left = after([0.05, 0.5, 0.05, 0.4])
print(f"0.05, 0.5, 0.05, 0.4 become {left}")
is_so = left[1] > 0 and left[0] == left[2] == 0
raise SystemExit(0 if is_so else "XTC excludes the top choice now: this finding is out of date")
PYTHON
