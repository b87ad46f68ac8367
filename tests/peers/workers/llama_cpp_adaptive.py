"""llama.cpp's adaptive-p over many rows: what it draws from, what it draws, and its state afterwards.

`python llama_cpp_adaptive.py IN.npz OUT.npz`: IN has rows, float32[steps, V], and target, decay, seed; OUT has weights,
float64[steps, V], tokens, int64[steps], and state, float32[steps, 2]: weighted sum and total weight.
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp as llama
import numpy as np
from llama_cpp_worker import ENTRY, STATE
from protocol import weights

if __name__ == "__main__":
    given = np.load(sys.argv[1])
    rows = given["rows"]
    sampler = llama.llama_sampler_init_adaptive_p(float(given["target"]), float(given["decay"]), int(given["seed"]))
    own = (ctypes.c_float * 2).from_address(sampler.contents.ctx + STATE)
    answer, tokens, state = np.zeros(rows.shape), [], []
    for step, row in enumerate(rows):
        entries = np.zeros(len(row), ENTRY)
        entries["id"], entries["logit"] = np.arange(len(row)), row
        array = llama.llama_token_data_array(
            data=entries.ctypes.data_as(llama.llama_token_data_p), size=len(row), selected=-1, sorted=False
        )
        llama.llama_sampler_apply(sampler, ctypes.byref(array))
        answer[step, entries["id"]] = weights(entries["logit"])
        tokens.append(int(entries["id"][array.selected]))
        llama.llama_sampler_accept(sampler, tokens[-1])
        state.append(tuple(own))
    np.savez(sys.argv[2], weights=answer, tokens=np.array(tokens), state=np.array(state, np.float32))
