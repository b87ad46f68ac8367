"""How numba compiles a kernel: its parts are lowered only, and machine code is made once, of the whole.

By default numba makes machine code of every function that another one calls, each optimised together with all that it
calls in turn. A kernel is made of a hundred parts, up to ten calls deep, and only compiled code calls them, so this was
more than half of the time. Here a part stays the LLVM code that numba lowers it to. A kernel links each of its parts
once and is optimised as one module, as a compiler of C does with a file; since nothing else can call its parts, they
are internal to it.

Rule 1: a part has no machine code of its own, so it cannot be called from Python; the few that several kernels need
have it, and are not linked into any of them (shared_parts.py). Rule 2: numba's documented seam is used (a pipeline
class, https://numba.readthedocs.io/en/stable/developer/custom_pipeline.html); nothing of numba is replaced, and other
users of numba in the process are compiled as ever.
"""

# Numba's compiler has annotations here and there only.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

from llvmlite.binding import Linkage
from numba import _dynfunc  # type: ignore[attr-defined]  # an extension module, which its stubs leave out
from numba.core import sigutils, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.environment import lookup_environment
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NativeLowering

from samplerd_server.sampling.kernels.code_cache import KernelCache
from samplerd_server.sampling.kernels.shared_parts import Symbol, add_part, note_needed, publish, symbol_of

__all__ = ["KernelCompiler", "PartCompiler", "PartDispatcher", "SharedDispatcher"]


class _PartLibrary(JITCodeLibrary):
    """The LLVM code of one part, without that of the parts which it calls."""

    def finalize(self) -> None:
        """End the library without optimising it: see the module."""
        self._raise_if_finalized()
        self._finalized = True

    @property
    def module(self) -> Any:
        """The LLVM module, not optimised as a whole."""
        return self._final_module

    @property
    def callees(self) -> list[Any]:
        """Libraries of what the part calls."""
        return list(self._linking_libraries)

    def _get_module_for_linking(self) -> Any:
        """Give the part with all that it calls, for a function that numba compiles in its own way: a test's."""
        if self._shared_module is None:
            module = self.module.clone()
            parts, _ = _link_parts(module, self.callees, but={self})
            for name in parts | _exported(self.module):
                module.get_function(name).linkage = "linkonce_odr"
            self._shared_module = module
        return self._shared_module


class _KernelLibrary(JITCodeLibrary):
    """The code of one kernel with all its parts."""

    def finalize(self) -> None:
        """Link every part once, then make machine code."""
        parts, symbols = _link_parts(self.module, self._linking_libraries, but=set())
        note_needed(self, symbols)
        for name in parts:
            part = self.module.get_function(name)
            part.linkage = "internal"
            # Internal functions may get another calling convention, but the loader of machine code looks internal names
            # up too: under its own name, a part might be called by other code that has the same part.
            part.name = f"{name}.of.{self.name}"
        self._linking_libraries = []
        super().finalize()

    @property
    def module(self) -> Any:
        """The LLVM module."""
        return self._final_module


def _link_parts(module: Any, libraries: list[Any], but: set[_PartLibrary]) -> tuple[set[str], tuple[Symbol, ...]]:
    """Link what libraries hold, and all that it calls, into a module.

    Returns the names of the parts, and the symbols of the shared parts, which stay outside.
    """
    parts: dict[_PartLibrary, None] = {}
    others: dict[Any, None] = {}
    shared: dict[Any, tuple[str, Symbol]] = {}
    pending = list(libraries)
    while pending:
        library = pending.pop()
        published = symbol_of(library)
        if published is not None:
            shared[library] = published
        elif not isinstance(library, _PartLibrary):
            others[library] = None
        elif library not in parts and library not in but:
            parts[library] = None
            pending += library.callees
    for part in parts:
        module.link_in(part.module, preserve=True)
    # Numba's own functions come last: they are linked only where something that is there already calls them.
    for other in others:
        module.link_in(other._get_module_for_linking(), preserve=True)  # noqa: SLF001  # as numba's finalize does
    for own_name, symbol in shared.values():
        module.get_function(own_name).name = symbol.name
    symbols = tuple(symbol for _, symbol in shared.values())
    return {name for part in parts for name in _exported(part.module)}, symbols


def _exported(module: Any) -> set[str]:
    """Give the functions that a module defines for others."""
    return {own.name for own in module.functions if not own.is_declaration and own.linkage == Linkage.external}


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):
    """Lowers a function to LLVM code that kernels link."""

    _name = "samplerd_part_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower, and tell numba where the code of calls to this part is."""
        library = state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        library.finalize()
        lowered = state["cr"]
        own = lowered.fndesc
        # What numba knows the part by. Address 0 is also what numba has for a function without a wrapper for Python.
        name = _dynfunc.make_function(own.lookup_module(), own.qualname, "A part.", 0, lowered.env, (library,))
        state.targetctx.insert_user_function(name, own, [library])
        state["cr"] = lowered._replace(cfunc=name)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _KernelLowering(NativeLowering):
    """Lowers an entry point, and makes machine code of it and its parts."""

    _name = "samplerd_kernel_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower into a library that links parts."""
        state.library = _KernelLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        super().run_pass(state)
        # Parts are not loaded by themselves, so their environments are set here, as loading from the cache does.
        for name in (variable.name for variable in state.library.module.global_variables):
            environment = lookup_environment(name)
            if environment is not None:
                state.library.codegen.set_env(name, environment)
        return True


def _with_lowering(state: Any, lowering: type[NativeLowering]) -> list[PassManager]:
    """Give numba's own passes, lowering excepted."""
    manager = PassManager("samplerd")
    for own, description in DefaultPassBuilder.define_nopython_pipeline(state).passes:
        manager.add_pass(lowering if own is NativeLowering else own, description)
    manager.finalize()
    return [manager]


class PartDispatcher(CPUDispatcher):
    """A part, compiled for types of arguments and not, as numba does, once more for each constant that is passed."""

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Say how the part is called with arguments of these types."""
        return super().get_call_template(
            tuple(types.unliteral(own) for own in args), {name: types.unliteral(own) for name, own in kws.items()}
        )


class SharedDispatcher(PartDispatcher):
    """A part with machine code of its own, which kernels call: shared_parts.py."""

    is_shared = True

    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        super().__init__(function, targetoptions=options, pipeline_class=KernelCompiler)
        self._cache = KernelCache(self, "part")
        add_part(self)

    def compile(self, sig: Any) -> Any:
        """Compile for types of arguments, or load, and let kernels call it."""
        entry = super().compile(sig)
        arguments, _ = sigutils.normalize_signature(sig)
        publish(self, tuple(arguments), self._cache.digest)
        return entry


class PartCompiler(CompilerBase):
    """Compiles a part to LLVM code."""

    def define_pipelines(self) -> list[PassManager]:
        """Give the passes."""
        return _with_lowering(self.state, _PartLowering)


class KernelCompiler(CompilerBase):
    """Compiles an entry point, or a shared part, to machine code."""

    def define_pipelines(self) -> list[PassManager]:
        """Give the passes."""
        return _with_lowering(self.state, _KernelLowering)
