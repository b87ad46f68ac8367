"""The RPCs of the Open Inference Protocol that manage a server: shared memory, the models, traces and logs.

Clients call most of them by habit: they unregister whatever there may be before they begin, or ask for settings. What
has nothing to do is answered as Triton answers it; what asks for a change that samplerd does not make is UNIMPLEMENTED.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from samplerd.oip import grpc_service_pb2 as oip
from samplerd_server.core.errors import NotFoundError, NotImplementedFieldError
from samplerd_server.transport.oip.contract import INFERENCE
from samplerd_server.transport.oip.echo import shown
from samplerd_server.transport.oip.model import MODEL, VERSION, check_model
from samplerd_server.transport.oip.registry import Place
from samplerd_server.transport.shared_memory.cuda_regions import CudaRegion

if TYPE_CHECKING:
    from samplerd_server.transport.oip.regions import Regions
    from samplerd_server.transport.rpc.call import Call
    from samplerd_server.transport.rpc.submitter import Submitter

__all__ = ["ManagementService"]

_LOG = logging.getLogger("samplerd")
_ONE_MODEL = f"failed to load or unload: samplerd has one model, {MODEL}, which is there from start to end"
_SEVERITIES = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}


class ManagementService:
    """Answers them."""

    def __init__(self, *, submitter: Submitter, regions: Regions) -> None:
        self._submitter = submitter
        self._regions = regions

    @INFERENCE.unary(
        "SystemSharedMemoryStatus", oip.SystemSharedMemoryStatusRequest, oip.SystemSharedMemoryStatusResponse
    )
    async def shared_memory_status(
        self, request: oip.SystemSharedMemoryStatusRequest, _call: Call
    ) -> oip.SystemSharedMemoryStatusResponse:
        """List the regions of shared memory that are registered; there are none where shared memory is off."""
        reply = oip.SystemSharedMemoryStatusResponse()
        if self._regions.system is None:
            _check_unnamed(request.name)
            return reply
        for name, place in self._regions.system.status(request.name).items():
            entry = reply.regions[name]
            entry.name, entry.key, entry.offset, entry.byte_size = name, *place
        return reply

    @INFERENCE.unary(
        "SystemSharedMemoryRegister", oip.SystemSharedMemoryRegisterRequest, oip.SystemSharedMemoryRegisterResponse
    )
    async def shared_memory_register(
        self, request: oip.SystemSharedMemoryRegisterRequest, call: Call
    ) -> oip.SystemSharedMemoryRegisterResponse:
        """Give a region of shared memory a name."""
        self._regions.register(request.name, Place(request.key, request.offset, request.byte_size), call.rpc)
        return oip.SystemSharedMemoryRegisterResponse()

    @INFERENCE.unary(
        "SystemSharedMemoryUnregister",
        oip.SystemSharedMemoryUnregisterRequest,
        oip.SystemSharedMemoryUnregisterResponse,
    )
    async def shared_memory_unregister(
        self, request: oip.SystemSharedMemoryUnregisterRequest, _call: Call
    ) -> oip.SystemSharedMemoryUnregisterResponse:
        """Forget the name of a region of shared memory, or all names."""
        if self._regions.system is not None:
            self._regions.system.unregister(request.name)
        return oip.SystemSharedMemoryUnregisterResponse()

    @INFERENCE.unary("CudaSharedMemoryStatus", oip.CudaSharedMemoryStatusRequest, oip.CudaSharedMemoryStatusResponse)
    async def cuda_shared_memory_status(
        self, request: oip.CudaSharedMemoryStatusRequest, _call: Call
    ) -> oip.CudaSharedMemoryStatusResponse:
        """List the regions of CUDA devices that are registered; there are none where they are off."""
        reply = oip.CudaSharedMemoryStatusResponse()
        for name, region in self._regions.cuda.status(request.name).items():
            entry = reply.regions[name]
            entry.name, entry.device_id, entry.byte_size = name, region.device_id, region.byte_size
        return reply

    @INFERENCE.unary(
        "CudaSharedMemoryRegister", oip.CudaSharedMemoryRegisterRequest, oip.CudaSharedMemoryRegisterResponse
    )
    async def cuda_shared_memory_register(
        self, request: oip.CudaSharedMemoryRegisterRequest, call: Call
    ) -> oip.CudaSharedMemoryRegisterResponse:
        """Open memory of a CUDA device, and give it a name."""
        region = CudaRegion(request.raw_handle, request.device_id, request.byte_size)
        await self._regions.register_cuda(request.name, region, call.rpc)
        return oip.CudaSharedMemoryRegisterResponse()

    @INFERENCE.unary(
        "CudaSharedMemoryUnregister", oip.CudaSharedMemoryUnregisterRequest, oip.CudaSharedMemoryUnregisterResponse
    )
    async def cuda_shared_memory_unregister(
        self, request: oip.CudaSharedMemoryUnregisterRequest, _call: Call
    ) -> oip.CudaSharedMemoryUnregisterResponse:
        """Close memory of a CUDA device, or all that is registered. Its owner may free it once this is answered."""
        await self._regions.cuda.unregister(request.name)
        return oip.CudaSharedMemoryUnregisterResponse()

    @INFERENCE.unary("RepositoryIndex", oip.RepositoryIndexRequest, oip.RepositoryIndexResponse)
    async def repository_index(self, request: oip.RepositoryIndexRequest, _call: Call) -> oip.RepositoryIndexResponse:
        """List the one model, with its state; `ready` leaves out what is not ready."""
        reply = oip.RepositoryIndexResponse()
        if self._submitter.is_ready:
            reply.models.add(name=MODEL, version=VERSION, state="READY")
        elif not request.ready:
            reply.models.add(name=MODEL, version=VERSION, state="UNAVAILABLE", reason="the server is draining")
        return reply

    @INFERENCE.unary("RepositoryModelLoad", oip.RepositoryModelLoadRequest, oip.RepositoryModelLoadResponse)
    async def repository_model_load(
        self, request: oip.RepositoryModelLoadRequest, _call: Call
    ) -> oip.RepositoryModelLoadResponse:
        """Refuse to load a model."""
        raise NotImplementedFieldError(shown(request.model_name), _ONE_MODEL)

    @INFERENCE.unary("RepositoryModelUnload", oip.RepositoryModelUnloadRequest, oip.RepositoryModelUnloadResponse)
    async def repository_model_unload(
        self, request: oip.RepositoryModelUnloadRequest, _call: Call
    ) -> oip.RepositoryModelUnloadResponse:
        """Refuse to unload a model."""
        raise NotImplementedFieldError(shown(request.model_name), _ONE_MODEL)

    @INFERENCE.unary("TraceSetting", oip.TraceSettingRequest, oip.TraceSettingResponse)
    async def trace_setting(self, request: oip.TraceSettingRequest, call: Call) -> oip.TraceSettingResponse:
        """Answer that nothing is traced."""
        if request.model_name:
            check_model(request.model_name, "")
        if request.settings:
            raise NotImplementedFieldError(call.rpc, "changes nothing: samplerd writes no traces of this kind")
        reply = oip.TraceSettingResponse()
        reply.settings["trace_level"].value.append("OFF")
        return reply

    @INFERENCE.unary("LogSettings", oip.LogSettingsRequest, oip.LogSettingsResponse)
    async def log_settings(self, request: oip.LogSettingsRequest, call: Call) -> oip.LogSettingsResponse:
        """Answer which severities the server's log has."""
        if request.settings:
            raise NotImplementedFieldError(call.rpc, "changes nothing: --log-level and --log-format set the log")
        reply = oip.LogSettingsResponse()
        for name, severity in _SEVERITIES.items():
            reply.settings[name].bool_param = _LOG.isEnabledFor(severity)
        reply.settings["log_verbose_level"].uint32_param = int(_LOG.isEnabledFor(logging.DEBUG))
        return reply


def _check_unnamed(name: str) -> None:
    """Check that a request asks for no region by name, where none is registered."""
    if name:
        raise NotFoundError(f"name: no region {shown(name)} is registered")
