// The sampler of ExLlamaV2 as a module of its own: its sources, without those of the kernels that need CUDA.
#include <torch/extension.h>

#include "ext_sampling.h"

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("sample_basic", &sample_basic); }
