#!/usr/bin/env bash
# SGLang 0.5.23: one request with a frequency and a repetition penalty gets other logits from one process to the next.
#
# Input: one logit of 2.0, whose token was in the output once; frequency_penalty 0.5, repetition_penalty 2.0.
# Expected: one answer, and the one of the overlap scheduler: (2.0 - 0.5) / 2.0 = 0.75.
# Seen: BatchedPenalizerOrchestrator keeps its penalizers in the order of a Python set of classes
# (srt/sampling/sampling_batch_info.py:276, penaltylib/orchestrator.py:23), which is that of their addresses. Without the
# overlap scheduler it applies them in this order, so a process answers 0.75 or 2.0 / 2.0 - 0.5 = 0.5, as its memory lies.
#
# The package requires CUDA packages, so it is installed without its dependencies, and torchvision is stubbed: the
# penalizers use neither. Exits 0 while this is so, and 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0 numpy==2.4.6
"${pip[@]}" torch==2.13.0 orjson==3.13.0 psutil==7.2.2 pybase64==1.5.1 requests==2.34.2 triton==3.9.0 packaging==26.3 \
	pillow==13.0.0 starlette==1.10.0 msgspec==0.22.0 pydantic==2.14.4 pyzmq==27.3.0 tqdm==4.70.1 ipython==9.18.1 \
	aiohttp==3.14.5 apache-tvm-ffi==0.1.11 transformers==5.19.0 dill==0.4.1 sentencepiece==0.2.3 \
	compressed-tensors==0.20.1 gguf==0.19.0 openai==3.57.0 partial-json-parser==0.2.1.1.post7
"${pip[@]}" --no-deps sglang==0.5.23
cat >"$folder/one.py" <<'PYTHON'
import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from dataclasses import dataclass

warnings.simplefilter("ignore")
import torch
import transformers.utils

transformers.utils.is_torchvision_available()


class Stub(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())
from sglang.srt.sampling import penaltylib
from sglang.srt.sampling.sampling_params import SamplingParams


@dataclass
class Request:
    sampling_params: SamplingParams


@dataclass(eq=False)
class Batch:
    reqs: list
    device: str = "cpu"


batch = Batch([Request(SamplingParams(frequency_penalty=0.5, repetition_penalty=2.0))])
orchestrator = penaltylib.BatchedPenalizerOrchestrator(
    3,
    batch,
    {  # as in SamplingBatchInfo.from_schedule_batch
        penaltylib.BatchedFrequencyPenalizer,
        penaltylib.BatchedMinNewTokensPenalizer,
        penaltylib.BatchedPresencePenalizer,
        penaltylib.BatchedRepetitionPenalizer,
    },
)
orchestrator.cumulate_output_tokens(torch.tensor([1]))
logits = torch.tensor([[0.0, 2.0, 0.0]])
orchestrator.apply(logits)
print(logits[0, 1].item())
PYTHON
export TORCH_COMPILE_DISABLE=1
for _ in $(seq 10); do
	"$folder/venv/bin/python" "$folder/one.py" 2>/dev/null | tail -1
done >"$folder/answers"
echo "SGLang 0.5.23, the logit after both penalties in ten processes:" "$(paste -sd ' ' "$folder/answers")"
if (($(sort -u "$folder/answers" | wc -l) == 1)); then
	echo "every process answers the same now: this finding is out of date"
	exit 1
fi
