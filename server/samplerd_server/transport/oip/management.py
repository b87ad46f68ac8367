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

if TYPE_CHECKING:
    from samplerd_server.transport.oip.registry import SharedMemoryRegistry
    from samplerd_server.transport.rpc.call import Call
    from samplerd_server.transport.rpc.submitter import Submitter

__all__ = ["ManagementService"]

_LOG = logging.getLogger("samplerd")
_OFF = "is off on this server; --shared-memory-prefix turns it on"
_NO_CUDA = "is not implemented: samplerd reads no memory of CUDA devices; system shared memory is served"
_ONE_MODEL = f"failed to load or unload: samplerd has one model, {MODEL}, which is there from start to end"
_SEVERITIES = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}


class ManagementService:
    """Answers them."""

    def __init__(self, *, submitter: Submitter, regions: SharedMemoryRegistry | None) -> None:
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
        if self._regions is None:
            _check_unnamed(request.name)
            return reply
        for name, place in self._regions.status(request.name).items():
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
        if self._regions is None:
            raise NotImplementedFieldError(call.rpc, _OFF)
        self._regions.register(request.name, Place(request.key, request.offset, request.byte_size))
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
        if self._regions is not None:
            self._regions.unregister(request.name)
        return oip.SystemSharedMemoryUnregisterResponse()

    @INFERENCE.unary("CudaSharedMemoryStatus", oip.CudaSharedMemoryStatusRequest, oip.CudaSharedMemoryStatusResponse)
    async def cuda_shared_memory_status(
        self, request: oip.CudaSharedMemoryStatusRequest, _call: Call
    ) -> oip.CudaSharedMemoryStatusResponse:
        """List the regions of CUDA devices that are registered: there are never any."""
        _check_unnamed(request.name)
        return oip.CudaSharedMemoryStatusResponse()

    @INFERENCE.unary(
        "CudaSharedMemoryRegister", oip.CudaSharedMemoryRegisterRequest, oip.CudaSharedMemoryRegisterResponse
    )
    async def cuda_shared_memory_register(
        self, _request: oip.CudaSharedMemoryRegisterRequest, call: Call
    ) -> oip.CudaSharedMemoryRegisterResponse:
        """Refuse to register memory of a CUDA device."""
        raise NotImplementedFieldError(call.rpc, _NO_CUDA)

    @INFERENCE.unary(
        "CudaSharedMemoryUnregister", oip.CudaSharedMemoryUnregisterRequest, oip.CudaSharedMemoryUnregisterResponse
    )
    async def cuda_shared_memory_unregister(
        self, _request: oip.CudaSharedMemoryUnregisterRequest, _call: Call
    ) -> oip.CudaSharedMemoryUnregisterResponse:
        """Answer that nothing is registered any more, which is always so."""
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
