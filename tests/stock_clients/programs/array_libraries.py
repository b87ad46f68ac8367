"""Rows that libraries of arrays make, as samplerd's client reads them.

Run with the folders of the client and of its stubs. Prints one JSON object: for each tensor the dtype and the numbers
that would be sent, or the class of the error.
"""
# ruff: noqa: E402  # the folders are named on the command line

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path[:0] = sys.argv[1:]

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import onnxruntime as ort
import pyarrow as pa
import tensorflow as tf

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.arrays import as_rows

ROWS = np.array([[1.0, -2.5, 3.25], [0.0, -np.inf, 0.5]], np.float32)
BFLOAT16_OF_ONNX, FLOAT8_OF_ONNX = 16, 17


def ort_value(array, kind):
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, kind)


def tensors():
    for kind in ("float32", "float16", "float64"):
        yield f"pyarrow {kind}", pa.array(ROWS.ravel().astype(kind))
    yield "pyarrow slice", pa.array(np.concatenate([[9.0], ROWS.ravel()]))[1:]
    yield "pyarrow tensor", pa.Tensor.from_numpy(ROWS)
    yield "pyarrow nulls", pa.array([1.0, None])
    yield "pyarrow text", pa.array(["a"])
    yield "onnxruntime float32", ort.OrtValue.ortvalue_from_numpy(ROWS)
    yield "onnxruntime bfloat16", ort_value(ROWS.astype(ml_dtypes.bfloat16).view(np.uint16), BFLOAT16_OF_ONNX)
    yield "onnxruntime float8", ort_value(np.ones((2, 3), np.uint8), FLOAT8_OF_ONNX)
    for kind in ("float32", "float16", "bfloat16", "float8_e4m3fn", "complex64"):
        yield f"jax {kind}", jnp.asarray(ROWS).astype(kind)
    for kind in ("float32", "float16", "bfloat16", "float64", "complex64"):
        yield f"tensorflow {kind}", tf.cast(tf.constant(ROWS), kind)
    yield "tensorflow variable", tf.Variable(ROWS)
    for kind in ("bfloat16", "float8_e5m2"):
        yield f"ml_dtypes {kind}", ROWS.astype(kind)


def read(tensor):
    try:
        rows = as_rows(tensor)
    except TypeError:
        return "TypeError"
    as_float32 = as_rows(tensor, "f32")
    return [pb.Dtype.Name(rows.dtype), np.frombuffer(as_float32.data, "<f4").astype(str).tolist()]


print(json.dumps({name: read(tensor) for name, tensor in tensors()}))
