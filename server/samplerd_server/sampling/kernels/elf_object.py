"""Reads relocatable objects, as LLVM writes them for x86-64 under Linux, and refuses everything else by name.

Source: System V Application Binary Interface, chapter on object files.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

__all__ = [
    "ABSOLUTE",
    "COMMON",
    "EXEC",
    "MACHINE",
    "UNDEFINED",
    "WRITE",
    "LinkError",
    "ObjectFile",
    "Section",
    "Symbol",
    "read_object",
]

MACHINE = 62
"""x86-64."""
WRITE, EXEC = 1, 4
"""Flags of a section."""
UNDEFINED, ABSOLUTE, COMMON = 0, 0xFFF1, 0xFFF2
"""Numbers of sections that there are not."""
_RELOCATABLE, _ALLOC, _SYMTAB, _RELA, _NOBITS = 1, 2, 2, 4, 8
_SKIPPED = (".eh_frame", ".note")
"""Sections that only debuggers and exceptions read; kernels raise none."""


class LinkError(Exception):
    """The objects need something that this linker does not know."""


@dataclass(slots=True, eq=False)
class Section:
    """A section that is loaded."""

    name: str
    flags: int
    align: int
    content: bytes
    size: int
    relocations: list[tuple[int, int, int, int]]
    """Place in the section, index of the symbol, kind, addend."""
    owner: ObjectFile
    address: int = 0


@dataclass(slots=True, eq=False)
class Symbol:
    """A name for a place in a section, or for one that another object defines."""

    name: str
    section: int
    value: int
    is_global: bool


@dataclass(slots=True, eq=False)
class ObjectFile:
    """What is linked of an object."""

    sections: dict[int, Section] = field(default_factory=dict)
    symbols: list[Symbol] = field(default_factory=list)


def read_object(code: bytes) -> ObjectFile:
    """Read a relocatable object."""
    if code[:6] != b"\x7fELF\x02\x01":
        raise LinkError("an object is not of 64 bits in ELF")
    kind, machine = struct.unpack_from("<HH", code, 16)
    if (kind, machine) != (_RELOCATABLE, MACHINE):
        raise LinkError(f"an object is of kind {kind} for machine {machine}")
    (table,) = struct.unpack_from("<Q", code, 40)
    size, count, names_at = struct.unpack_from("<HHH", code, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", code, table + size * i) for i in range(count)]

    def text(section: int, at: int) -> str:
        begin = headers[section][4] + at
        return code[begin : code.index(b"\0", begin)].decode()

    made = ObjectFile()
    for index, (name_at, what, flags, _, at, length, _, _, align, _) in enumerate(headers):
        name = text(names_at, name_at)
        if flags & _ALLOC and length and not name.startswith(_SKIPPED):
            content = b"" if what == _NOBITS else code[at : at + length]
            made.sections[index] = Section(name, flags, max(align, 1), content, length, [], made)
    for _, what, _, _, at, length, link_to, about, _, _ in headers:
        if what == _SYMTAB:
            for name_at, info, _, section, value, _ in struct.iter_unpack("<IBBHQQ", code[at : at + length]):
                made.symbols.append(Symbol(text(link_to, name_at), section, value, info >> 4 != 0))
        if what == _RELA and about in made.sections:
            made.sections[about].relocations = [
                (place, info >> 32, info & 0xFFFFFFFF, addend)
                for place, info, addend in struct.iter_unpack("<QQq", code[at : at + length])
            ]
    return made
