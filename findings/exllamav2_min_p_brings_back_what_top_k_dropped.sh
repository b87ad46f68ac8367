#!/usr/bin/env bash
# ExLlamaV2 0.3.2: min_p brings a token back that top_k had dropped.
#
# Input: probabilities 0.02, 0.03, 0.25, 0.3, 0.4; top_k 2, then min_p 0.01, which both of them pass.
# Expected: the two most likely, tokens 3 and 4: a filter only takes away.
# Seen: tokens 2, 3 and 4, and token 2, whose own probability is 0.25, counts among them. Where every token passes,
# keep_threshold (exllamav2_ext/cpp/sampling.cpp) runs one past the end of the list, swaps what lies there with the last
# token, and counts it: after top_k that is a token which top_k dropped. top_a has the same fault.
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
// As sample_basic does: top_k, its masses made a distribution, min_p.
extern "C" int top_k_min_p(int count, float* probs, int* ids, int k, float min_p) {
  count = top_k_cpu(count, probs, ids, k);
  normalize_cpu(count, probs);
  return min_p_cpu(count, probs, ids, min_p);
}
CPP
g++ -O2 -std=c++17 -w -fPIC -shared -I"$source" "$folder/shim.cpp" "$source"/sampling.cpp "$source"/sampling_avx2.cpp \
	"$source"/profiling.cpp -o "$folder/sampler.so"
"$folder/venv/bin/python" - "$folder/sampler.so" <<'PYTHON'
import ctypes
import sys
from importlib.metadata import version

chain = ctypes.CDLL(sys.argv[1]).top_k_min_p
chain.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_float]
PROBABILITIES = [0.02, 0.03, 0.25, 0.3, 0.4]


def kept(min_p):
    """Ids that are left."""
    count = len(PROBABILITIES)
    probs, ids = (ctypes.c_float * count)(*PROBABILITIES), (ctypes.c_int * count)(*range(count))
    return sorted(ids[: chain(count, probs, ids, 2, min_p)])


print(f"ExLlamaV2 {version('exllamav2')}, probabilities {PROBABILITIES}, top_k 2")
print(f"min_p 0.01, which both pass: tokens {kept(0.01)} are kept")
print(f"min_p 0.9, which one passes: tokens {kept(0.9)} are kept")
is_so = kept(0.01) == [2, 3, 4] and kept(0.9) == [4]
raise SystemExit(0 if is_so else "min_p only takes away now: this finding is out of date")
PYTHON
