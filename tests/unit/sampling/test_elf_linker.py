"""Objects as LLVM writes them, linked and loaded; and objects that need what the linker does not know."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import pytest
from llvmlite import binding

from samplerd_server.sampling.kernels.elf_linker import link
from samplerd_server.sampling.kernels.elf_object import LinkError
from samplerd_server.sampling.kernels.object_code import position_independent

FIRST = """
@table = global [2 x ptr] [ptr @twice, ptr @strlen]
@counter = internal global i64 40
@zeros = global [4096 x i64] zeroinitializer
@scale = internal constant [4 x double] [double 1.0, double 2.0, double 4.0, double 8.0]
@stdout = external global ptr
declare i64 @strlen(ptr)
declare i64 @other(i64)

define i64 @twice(i64 %x) {
  %y = mul i64 %x, 2
  ret i64 %y
}
define i64 @count() {
  %a = load i64, ptr @counter
  %b = add i64 %a, 1
  store i64 %b, ptr @counter
  ret i64 %b
}
define i64 @lengths(ptr %text) {
  %a = call i64 @strlen(ptr %text)
  %b = call i64 @other(i64 %a)
  ret i64 %b
}
define double @scaled(i64 %i) {
  %p = getelementptr [4 x double], ptr @scale, i64 0, i64 %i
  %x = load double, ptr %p
  ret double %x
}
define ptr @output() {
  %x = load ptr, ptr @stdout
  ret ptr %x
}
define ptr @where() { ret ptr @zeros }
"""
SECOND = "define i64 @other(i64 %x) {\n %y = add i64 %x, 100\n ret i64 %y\n}"
EXPORTS = ["twice", "count", "lengths", "scaled", "table", "zeros", "output", "where"]


def compile_object(text: str) -> bytes:
    machine = position_independent("x86-64", "")
    module = binding.parse_assembly(text)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    return bytes(machine.emit_object(module))


def test_what_is_linked_can_be_loaded_and_called(tmp_path: Path) -> None:
    path = tmp_path / "linked.so"
    path.write_bytes(link([compile_object(FIRST), compile_object(SECOND)], EXPORTS))
    library = ctypes.CDLL(str(path))
    assert library.twice(21) == 42
    assert (library.count(), library.count()) == (41, 42)
    assert library.lengths(b"four") == 104, "a function of the C library, and one of the other object"
    library.scaled.restype = ctypes.c_double
    assert [library.scaled(ctypes.c_int64(own)) for own in range(4)] == [1.0, 2.0, 4.0, 8.0]
    twice, strlen = (ctypes.c_void_p * 2).in_dll(library, "table")
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(twice)(4) == 8
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p)(strlen)(b"four") == 4
    zeros = (ctypes.c_int64 * 4096).in_dll(library, "zeros")
    assert not any(zeros)
    library.output.restype = library.where.restype = ctypes.c_void_p
    assert library.where() == ctypes.addressof(zeros)
    assert library.output() == ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stdout").value


@pytest.mark.parametrize(
    ("objects", "exports", "told"),
    [
        ([SECOND], ["absent"], "no object defines absent"),
        ([SECOND, SECOND], ["other"], "two objects define other"),
        (["@own = common global i64 0"], ["own"], "own is common"),
        (["@own = thread_local global i64 1\ndefine ptr @f() { ret ptr @own }"], ["f"], "relocation"),
    ],
    ids=["absent", "twice", "common", "thread's own"],
)
def test_what_it_does_not_know_is_refused(objects: list[str], exports: list[str], told: str) -> None:
    with pytest.raises(LinkError, match=told):
        link([compile_object(own) for own in objects], exports)


def test_objects_of_other_machines_are_refused() -> None:
    code = bytearray(compile_object(SECOND))
    with pytest.raises(LinkError, match="not of 64 bits in ELF"):
        link([b"\xcf\xfa\xed\xfe" + bytes(100)], [])
    struct.pack_into("<H", code, 18, 183)
    with pytest.raises(LinkError, match="for machine 183"):
        link([bytes(code)], [])


def test_what_nobody_defines_fails_when_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "linked.so"
    path.write_bytes(link([compile_object(FIRST)], ["lengths"]))
    with pytest.raises(OSError, match="undefined symbol: other"):
        ctypes.CDLL(str(path))
