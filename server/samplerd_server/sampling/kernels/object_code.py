"""The machine code of a compiled kernel as a relocatable object, for `linked.py`.

Numba's own machine code is for one process, and is called through numba. Here the same optimised LLVM code is made into
code that may lie anywhere, with a function of its own for Python (python_entry.py).
"""

# Numba's compiler has annotations here and there only.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from llvmlite import binding
from numba.core.registry import cpu_target

from samplerd_server.sampling.kernels.linked import KernelObject, can_link
from samplerd_server.sampling.kernels.python_entry import PythonEntry
from samplerd_server.sampling.kernels.shared_parts import symbol_name

__all__ = ["known_object", "note_object", "object_of", "position_independent"]

_OPTIMISED = 3
"""As numba's own machine code is by default; with other settings of numba's nothing is linked."""
_made: WeakKeyDictionary[Any, KernelObject] = WeakKeyDictionary()
"""By numba's library of a kernel."""


def object_of(dispatcher: Any, compiled: Any, digest: str) -> KernelObject | None:
    """Give the object of a kernel or shared part that this process has compiled; None where none can be linked."""
    if not can_link():
        return None
    if compiled.library not in _made:
        is_shared = getattr(dispatcher, "is_shared", False)
        symbol = symbol_name(dispatcher, tuple(compiled.signature.args), digest) if is_shared else ""
        _made[compiled.library] = _make_object(dispatcher, compiled, symbol)
    return _made[compiled.library]


def note_object(library: Any, made: KernelObject | None) -> None:
    """Remember the object of a kernel that was loaded from the cache into a library; None = it has none."""
    if made is not None:
        _made[library] = made


def known_object(library: Any) -> KernelObject | None:
    """Give the object of a kernel; None if it has none."""
    return _made.get(library)


def position_independent(cpu: str, features: str) -> Any:
    """Give what LLVM makes machine code with that may lie anywhere."""
    triple, _, _ = cpu_target.target_context.codegen().magic_tuple()
    target = binding.Target.from_triple(triple)
    return target.create_target_machine(cpu=cpu, features=features, opt=_OPTIMISED, reloc="pic", codemodel="small")


def _make_object(dispatcher: Any, compiled: Any, symbol: str) -> KernelObject:
    """Make the object of a kernel.

    Args:
        dispatcher: numba's, of the kernel.
        compiled: what it has compiled.
        symbol: what kernels call a shared part by; empty = an entry point, which Python calls.

    """
    described = compiled.fndesc
    name = f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}"
    module = compiled.library.module.clone()
    kept, entry, types = {symbol}, "", ""
    dtypes: tuple[Any, ...] = ()
    if symbol:
        module.get_function(described.mangled_name).name = symbol
    else:
        entry, types = f"entry.{name}", f"types.{name}"
        kept = {entry, types}
        releases_lock = bool(dispatcher.targetoptions.get("nogil"))
        made = PythonEntry(cpu_target.target_context, described, entry, types, releases_lock=releases_lock)
        dtypes = tuple(made.dtypes)
        module.link_in(binding.parse_assembly(str(made)))
    for own in [*module.functions, *module.global_variables]:
        if not own.is_declaration and own.name not in kept:
            own.linkage = "internal"
    _, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    machine = position_independent(cpu, features)
    passes = binding.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_strip_dead_prototype_pass()
    passes.run(module, binding.create_pass_builder(machine, binding.create_pipeline_tuning_options()))
    return KernelObject(name=name, code=machine.emit_object(module), entry=entry, types=types, dtypes=dtypes)
