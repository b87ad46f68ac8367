"""Links relocatable objects into one shared object, as a linker does: machines that compile kernels may have none.

It knows what LLVM writes for position-independent code of x86-64 under Linux, and refuses everything else by name.
Nothing is searched for in libraries: whatever no object defines is looked up by the dynamic linker, when the result is
loaded. Source: System V Application Binary Interface, its supplement for AMD64, and the generic chapters on object
files and dynamic linking.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from samplerd_server.sampling.kernels.elf_object import (
    ABSOLUTE,
    COMMON,
    EXEC,
    MACHINE,
    UNDEFINED,
    WRITE,
    LinkError,
    ObjectFile,
    Section,
    Symbol,
    read_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["link"]

_PAGE = 4096
_SHARED = 3
# Relocations: value, where S is the symbol, A the addend, P the place, and G the place of its entry in the table.
_ABS64, _PC32, _PLT32, _GOTPCREL, _GLOB_DAT, _RELATIVE, _PC64, _GOTPCRELX, _REX_GOTPCRELX = 1, 2, 4, 9, 6, 8, 24, 41, 42
_BY_TABLE = (_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX)
_STUB = b"\xff\x25"
"""`jmp *offset(%rip)`, before the offset."""
_STUB_BYTES = 16
_HEADERS, _DYNAMIC = 5, 11
"""Program headers, and entries of the dynamic section."""


class _Segment(NamedTuple):
    flags: int
    begin: int
    file_end: int
    end: int


class _Linker:
    """One link."""

    def __init__(self, objects: list[bytes], exports: list[str]) -> None:
        self._objects = [read_object(code) for code in objects]
        self._defined: dict[str, tuple[ObjectFile, Symbol]] = {}
        for own in self._objects:
            for symbol in own.symbols:
                if symbol.is_global and symbol.section == COMMON:
                    raise LinkError(f"{symbol.name} is common")
                if (
                    symbol.is_global
                    and symbol.section != UNDEFINED
                    and self._defined.setdefault(symbol.name, (own, symbol)) != (own, symbol)
                ):
                    raise LinkError(f"two objects define {symbol.name}")
        missing = [name for name in exports if name not in self._defined]
        if missing:
            raise LinkError(f"no object defines {', '.join(missing)}")
        self._exports = exports
        self._imports: dict[str, int] = {}
        """Place in the table of symbols, by name."""
        self._table: dict[str | tuple[int, int], int] = {}
        """Place in the table of addresses, by imported name, or by object and symbol of whoever defines it."""
        self._stubs: dict[str, int] = {}
        self._absolute = 0
        """Addresses in data, which the dynamic linker writes."""
        self._image, self._stubs_at, self._table_at = bytearray(), 0, 0
        for section in self._all_sections():
            for _, index, kind, _ in section.relocations:
                self._reserve(section, section.owner.symbols[index], kind)

    def _all_sections(self) -> list[Section]:
        return [section for own in self._objects for section in own.sections.values()]

    def _find(self, owner: ObjectFile, symbol: Symbol) -> tuple[ObjectFile, Symbol] | None:
        """Find who defines a symbol; None = another library does."""
        if symbol.section != UNDEFINED:
            return owner, symbol
        return self._defined.get(symbol.name)

    def _reserve(self, section: Section, symbol: Symbol, kind: int) -> None:
        """Make room for what a relocation needs."""
        found = self._find(section.owner, symbol)
        if found is None:
            self._imports.setdefault(symbol.name, 1 + len(self._imports))
        if kind in _BY_TABLE:
            self._entry(found, symbol)
        elif kind == _PLT32 and found is None:
            self._stubs.setdefault(symbol.name, len(self._stubs))
            self._entry(found, symbol)
        elif kind == _ABS64 and section.flags & WRITE:
            self._absolute += 1
        elif kind not in {_PC32, _PLT32, _PC64} or found is None:
            raise LinkError(f"relocation {kind} of {symbol.name or 'a section'} in {section.name}")

    def _entry(self, found: tuple[ObjectFile, Symbol] | None, symbol: Symbol) -> int:
        key: str | tuple[int, int]
        key = symbol.name if found is None else (self._objects.index(found[0]), found[0].symbols.index(found[1]))
        return self._table.setdefault(key, len(self._table))

    def _address(self, found: tuple[ObjectFile, Symbol]) -> int:
        owner, symbol = found
        if symbol.section == ABSOLUTE:
            return symbol.value
        if symbol.section not in owner.sections:
            raise LinkError(f"{symbol.name or 'a symbol'} is in a section that is left out")
        return owner.sections[symbol.section].address + symbol.value

    def link(self) -> bytes:
        """Lay everything out, and write it."""
        names, where = bytearray(1), {}
        for name in [*self._imports, *self._exports]:
            where[name] = len(names)
            names += name.encode() + b"\0"
        symbols = 1 + len(self._imports) + len(self._exports)
        count = len(self._table) + self._absolute
        at = 64 + 56 * _HEADERS
        symbols_at, at = at, at + 24 * symbols
        hash_at, at = at, at + 4 * (3 + symbols)
        names_at, at = at, _up(at + len(names), 8)
        relocations_at, at = at, at + 24 * count
        at = self._place(at, 0)
        read = _Segment(4, 0, at, at)
        begin = self._stubs_at = _up(at, _PAGE)
        at = self._place(begin + _STUB_BYTES * len(self._stubs), EXEC)
        run = _Segment(5, begin, at, at)
        begin = dynamic_at = _up(at, _PAGE)
        self._table_at = dynamic_at + 16 * _DYNAMIC
        file_end = self._place(self._table_at + 8 * len(self._table), WRITE)
        write = _Segment(6, begin, file_end, self._place(file_end, WRITE, is_empty=True))
        self._image = image = bytearray(file_end)
        for section in self._all_sections():
            image[section.address : section.address + len(section.content)] = section.content
        self._write_stubs()
        relocations = [*self._table_relocations(), *self._relocate()]
        assert len(relocations) == count, "relocations were not counted right. This is a bug."
        for place, relocation in enumerate(relocations):
            struct.pack_into("<QQq", image, relocations_at + 24 * place, *relocation)
        entries = [bytes(24), *(struct.pack("<IBBHQQ", where[name], 0x10, 0, 0, 0, 0) for name in self._imports)]
        entries += [
            struct.pack("<IBBHQQ", where[name], 0x10, 0, 1, self._address(self._defined[name]), 0)
            for name in self._exports
        ]
        image[symbols_at : symbols_at + 24 * symbols] = b"".join(entries)
        # A hash table of one bucket, which is a chain of all symbols: each but the last leads to the one after it.
        chain = [0, *range(2, symbols), 0]
        struct.pack_into(f"<{3 + symbols}I", image, hash_at, 1, symbols, 1, *chain)
        image[names_at : names_at + len(names)] = names
        dynamic = [(4, hash_at), (5, names_at), (6, symbols_at), (10, len(names)), (11, 24), (7, relocations_at)]
        dynamic += [(8, 24 * count), (9, 24), (30, 8), (0x6FFFFFFB, 1), (0, 0)]  # bind all symbols at once
        for place, entry in enumerate(dynamic):
            struct.pack_into("<QQ", image, dynamic_at + 16 * place, *entry)
        self._write_headers((read, run, write), dynamic_at)
        return bytes(image)

    def _write_stubs(self) -> None:
        """Write what jumps to functions of other libraries."""
        for name, place in self._stubs.items():
            here = self._stubs_at + _STUB_BYTES * place
            self._image[here : here + 2] = _STUB
            struct.pack_into("<i", self._image, here + 2, self._table_at + 8 * self._table[name] - here - 6)

    def _table_relocations(self) -> Iterator[tuple[int, int, int]]:
        """Yield what the dynamic linker does with the table of addresses."""
        for key, place in self._table.items():
            if isinstance(key, str):
                yield self._table_at + 8 * place, self._imports[key] << 32 | _GLOB_DAT, 0
            else:
                owner, symbol = self._objects[key[0]], self._objects[key[0]].symbols[key[1]]
                yield self._table_at + 8 * place, _RELATIVE, self._address((owner, symbol))

    def _relocate(self) -> Iterator[tuple[int, int, int]]:
        """Relocate the sections, and yield what the dynamic linker must."""
        for section in self._all_sections():
            for place, index, kind, addend in section.relocations:
                symbol = section.owner.symbols[index]
                found, here = self._find(section.owner, symbol), section.address + place
                if kind == _ABS64 and found is None:
                    yield here, self._imports[symbol.name] << 32 | _ABS64, addend
                elif kind == _ABS64 and found is not None:
                    yield here, _RELATIVE, self._address(found) + addend
                else:
                    if kind in _BY_TABLE:
                        to = self._table_at + 8 * self._entry(found, symbol)
                    elif found is None:
                        to = self._stubs_at + _STUB_BYTES * self._stubs[symbol.name]
                    else:
                        to = self._address(found)
                    struct.pack_into("<q" if kind == _PC64 else "<i", self._image, here, to + addend - here)

    def _write_headers(self, segments: tuple[_Segment, ...], dynamic_at: int) -> None:
        size = 16 * _DYNAMIC
        headers = [
            (1, own.flags, own.begin, own.begin, own.begin, own.file_end - own.begin, own.end - own.begin, _PAGE)
            for own in segments
        ]
        headers.append((2, 6, dynamic_at, dynamic_at, dynamic_at, size, size, 8))
        headers.append((0x6474E551, 6, 0, 0, 0, 0, 0, 16))  # a stack that is not executable
        about = struct.pack("<HHIQQQIHHHHHH", _SHARED, MACHINE, 1, 0, 64, 0, 0, 64, 56, _HEADERS, 64, 0, 0)
        self._image[:64] = b"\x7fELF\x02\x01\x01" + bytes(9) + about
        for place, header in enumerate(headers):
            struct.pack_into("<IIQQQQQQ", self._image, 64 + 56 * place, *header)

    def _place(self, at: int, flag: int, *, is_empty: bool = False) -> int:
        """Give the sections with a flag their addresses; returns where they end."""
        for section in self._all_sections():
            if section.flags & (WRITE | EXEC) == flag and (flag != WRITE or is_empty == (not section.content)):
                section.address = at = _up(at, section.align)
                at += section.size
        return at


def _up(at: int, align: int) -> int:
    return -(-at // align) * align


def link(objects: list[bytes], exports: list[str]) -> bytes:
    """Link objects into a shared object that exports these symbols.

    Raises:
        LinkError: an object needs what is not known here, or a symbol is missing or defined twice.

    """
    return _Linker(objects, exports).link()
