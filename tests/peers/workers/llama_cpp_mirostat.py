"""llama.cpp's mirostat 2 over many rows: what it keeps of each, what it draws, and its mu afterwards.

`python llama_cpp_mirostat.py IN.npz OUT.npz`: IN has rows, float32[steps, V], and tau, eta, seed; OUT has kept,
bool[steps, V], tokens, int64[steps], and mu, float32[steps].
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp as llama
import numpy as np
from llama_cpp_worker import ENTRY

if __name__ == "__main__":
    given = np.load(sys.argv[1])
    rows = given["rows"]
    sampler = llama.llama_sampler_init_mirostat_v2(int(given["seed"]), float(given["tau"]), float(given["eta"]))
    kept, tokens, mu = np.zeros(rows.shape, bool), [], []
    for step, row in enumerate(rows):
        entries = np.zeros(len(row), ENTRY)
        entries["id"], entries["logit"] = np.arange(len(row)), row
        array = llama.llama_token_data_array(
            data=entries.ctypes.data_as(llama.llama_token_data_p), size=len(row), selected=-1, sorted=False
        )
        llama.llama_sampler_apply(sampler, ctypes.byref(array))
        kept[step, entries["id"][: array.size]] = True
        tokens.append(int(entries["id"][array.selected]))
        # Its context begins with seed, current seed (uint32 each), tau, eta, mu (float each).
        mu.append(ctypes.c_float.from_address(sampler.contents.ctx + 16).value)
    np.savez(sys.argv[2], kept=kept, tokens=np.array(tokens), mu=np.array(mu, np.float32))
