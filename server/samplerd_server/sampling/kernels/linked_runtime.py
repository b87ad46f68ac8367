"""What linked kernels need beside themselves: numba's memory, and a function that asks the processor what it is.

Rule 1: a block and the head before it are one allocation. Numba's lists keep their items in a block of their own; the
kernels have lists of numbers only (a sort's stack), which neither grow nor need a destructor.
Source: the C code of numba.core.runtime, and MemInfo in numba.core.runtime.nrtdynmod.
"""

# Numba's compiler has annotations here and there only.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from llvmlite import binding

from samplerd_server.sampling.kernels.linked import PROCESSOR, PROCESSOR_LEAVES
from samplerd_server.sampling.kernels.object_code import position_independent

__all__ = ["runtime_object"]

_MEMORY = """
declare ptr @malloc(i64)
declare void @free(ptr)

define ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %align) {
  %wide = zext i32 %align to i64
  %head = add i64 %wide, 64
  %all = add i64 %size, %head
  %info = call ptr @malloc(i64 %all)
  %none = icmp eq ptr %info, null
  br i1 %none, label %end, label %fill
fill:
  %less = sub i64 %wide, 1
  %begin = ptrtoint ptr %info to i64
  %after = add i64 %begin, 64
  %last = add i64 %after, %less
  %mask = xor i64 %less, -1
  %data = and i64 %last, %mask
  store i64 1, ptr %info
  %destructor = getelementptr i8, ptr %info, i64 8
  store i64 0, ptr %destructor
  %about = getelementptr i8, ptr %info, i64 16
  store i64 0, ptr %about
  %begins = getelementptr i8, ptr %info, i64 24
  store i64 %data, ptr %begins
  %bytes = getelementptr i8, ptr %info, i64 32
  store i64 %size, ptr %bytes
  br label %end
end:
  ret ptr %info
}

define ptr @NRT_MemInfo_new_varsize_dtor(i64 %size, ptr %destructor) {
  %info = call ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 32)
  ret ptr %info
}

define void @NRT_MemInfo_call_dtor(ptr %info) {
  call void @free(ptr %info)
  ret void
}
"""


def runtime_object() -> bytes:
    """Make the object, for any processor of this architecture."""
    lines = [_MEMORY, f"define void @{PROCESSOR}(ptr %out) {{"]
    kind, constraints = "{i32, i32, i32, i32}", "={ax},={bx},={cx},={dx},{ax},{cx},~{dirflag},~{fpsr},~{flags}"
    for number, (leaf, part) in enumerate(PROCESSOR_LEAVES):
        lines.append(f'%r{number} = call {kind} asm sideeffect "cpuid", "{constraints}"(i32 {leaf}, i32 {part})')
        for register in range(4):
            word = 4 * number + register
            lines += [
                f"%w{word} = extractvalue {kind} %r{number}, {register}",
                f"%p{word} = getelementptr i32, ptr %out, i64 {word}",
                f"store i32 %w{word}, ptr %p{word}",
            ]
    module = binding.parse_assembly("\n".join([*lines, "ret void", "}"]))
    binding.initialize_native_asmparser()
    machine = position_independent("x86-64", "")
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    return bytes(machine.emit_object(module))
