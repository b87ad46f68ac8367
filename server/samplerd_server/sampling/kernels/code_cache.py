"""The cache of machine code on disk: folders that are read in turn, and written where one can be.

Numba's files are used, under names and keys of our own (code_digest.py). What numba leaves open is what may be wrong
with a folder. Rule 1: no state of the disk stops a start. A file that is truncated, damaged, of another program or
unreadable counts as absent: the kernel is compiled again, and its file is replaced where that is allowed. Rule 2: a
folder that can only be read is read all the same, so that an installation of another user, or a read-only image, is
used as it was shipped. Rule 3: machine code is run only if it is what was saved: each file begins with the checksum of
the rest.
"""

# Numba's compiler has annotations here and there only.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import hashlib
import inspect
import logging
import pickle
import shutil
import sys
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numba.core import config
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    InTreeCacheLocator,
    NullCache,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)
from numba.core.registry import cpu_target

from samplerd_server.sampling.kernels.code_digest import digest
from samplerd_server.sampling.kernels.object_code import note_object, object_of
from samplerd_server.sampling.kernels.shared_parts import load, needed_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numba.core.dispatcher import Dispatcher

__all__ = ["KernelCache", "looking_into"]

_LOG = logging.getLogger("samplerd.kernels")
_KEPT = 4
"""Versions of a kernel that stay in a cache: going back and forth between branches recompiles nothing."""
_DIGITS = 16
"""Digits of a digest in a file's name; the index holds all of them."""
_MAGIC = b"samplerd machine code 1\n"
"""What a file of machine code begins with, before its checksum."""
_ROOM_BYTES = 64 << 20
"""Free bytes that a folder must have to be written to: all kernels take a tenth of it."""
_spare_folders: list[Path] = []
"""Where to look last; see `looking_into`."""
_reported: set[tuple[str, str]] = set()
"""What has been logged, of which folder: a line for each of ten kernels would say no more than one."""


@contextmanager
def looking_into(folder: Path) -> Iterator[None]:
    """Look into one more folder, after all others."""
    _spare_folders.append(folder)
    try:
        yield
    finally:
        _spare_folders.remove(folder)


def _report(what: str, where: str, error: BaseException) -> None:
    if (what, where) not in _reported:
        _reported.add((what, where))
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        _LOG.warning("%s: %s (%s)", what, where, cause)


class _Files(IndexDataCacheFile):
    """The index and the machine code of one version of a kernel, in one folder."""

    def load(self, key: Any) -> Any:
        """Load what was saved under a key; None if it is absent, unreadable or damaged."""
        name = self._load_index().get(key)
        return None if name is None else self._load_data(name)

    def is_stored(self, target: Any) -> bool:
        """Tell whether there is undamaged machine code for a processor."""
        names = [name for (_, own, _), name in self._load_index().items() if own == target]
        return any(self._read(name) is not None for name in names)

    def _load_index(self) -> dict[Any, str]:
        try:
            return dict(super()._load_index())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except Exception as error:  # noqa: BLE001  # unpickling what is damaged raises anything
            self._refuse(error)
            return {}

    def _load_data(self, name: str) -> Any:
        payload = self._read(name)
        try:
            return None if payload is None else pickle.loads(payload)  # noqa: S301  # its checksum is right
        except Exception as error:  # noqa: BLE001  # as above
            self._refuse(error)
            return None

    def _save_data(self, name: str, data: Any) -> None:
        payload = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(_MAGIC + self._checksum(payload) + payload)

    def _read(self, name: str) -> bytes | None:
        """Read a file of machine code; None if it is absent or not what was saved."""
        try:
            content = Path(self._data_path(name)).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse(error)
            return None
        begin = len(_MAGIC) + hashlib.sha256().digest_size
        payload = content[begin:]
        if content[:begin] == _MAGIC + self._checksum(payload):
            return payload
        self._refuse(ValueError(f"{name} is not what was saved"))
        return None

    def _checksum(self, payload: bytes) -> bytes:
        return hashlib.sha256(self._source_stamp.encode() + payload).digest()

    def _refuse(self, error: Exception) -> None:
        what = "cannot read" if isinstance(error, OSError) else "damaged files in"
        _report(f"{what} a cache of kernels, which are compiled again", self._cache_path, error)


class _Shared(UserProvidedCacheLocator):
    """The folder that NUMBA_CACHE_DIR names, with one place for all checkouts and installations."""

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:
        """Name a folder by the package, not by where it is installed."""
        return f"samplerd_{Path(py_file).parent.name}"


class _Spare(_Shared):
    """A folder that was named while the process runs."""

    def __init__(self, py_func: Any, py_file: str, folder: Path) -> None:
        super().__init__(py_func, py_file)
        self._cache_path = str(folder / self.get_suitable_cache_subpath(py_file))


class _Implementation(CompileResultCacheImpl):
    """What files are called. The superclass would look for one folder that can be written."""

    def __init__(self, kernel: Dispatcher, stamp: str, locator: Any) -> None:
        function = kernel.py_func
        self._locator = locator
        self._kernel, self._stamp = kernel, stamp
        self._lineno = function.__code__.co_firstlineno
        name = f"{Path(inspect.getfile(function)).stem}.{function.__qualname__}".replace("<", "").replace(">", "")
        self._filename_base = f"{name}-{stamp[:_DIGITS]}.{_python()}"

    def reduce(self, compiled: Any) -> Any:
        """Give what is saved: the code, the shared parts that it calls, and what it is linked from (linked.py)."""
        is_ours = self._kernel.py_func.__module__.startswith("samplerd_server.")
        own = object_of(self._kernel, compiled, self._stamp) if is_ours else None
        return needed_by(compiled.library), super().reduce(compiled), own

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        """Load what was saved, and before it the shared parts that it calls."""
        symbols, compiled, own = payload
        load(symbols)
        rebuilt = super().rebuild(target_context, compiled)
        note_object(rebuilt.library, own)
        return rebuilt


class _Folder(FunctionCache):
    """One kernel in one folder. The superclass would insist on writing there."""

    def __init__(self, kernel: Dispatcher, stamp: str, locator: Any) -> None:
        self._name = repr(kernel.py_func)
        self._py_func = kernel.py_func
        self._impl = _Implementation(kernel, stamp, locator)
        self._cache_path = locator.get_cache_path()
        self._cache_file = self.files = _Files(self._cache_path, self._impl.filename_base, stamp)
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load code for arguments of these types; None if there is none that can be run."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # noqa: BLE001  # of whatever numba makes of code that it did not save so
            _report("unusable kernels, which are compiled again, in a cache", self._cache_path, error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save, then forget the oldest versions.

        Raises:
            OSError: the folder cannot be written, or is full.

        """
        super().save_overload(sig, data)
        name, _, _ = self._impl.filename_base.rpartition("-")
        _forget_old(Path(self._cache_path), name, _python())

    def has_room(self) -> bool:
        """Tell whether files can be made in the folder."""
        try:
            self._impl.locator.ensure_cache_path()
            return shutil.disk_usage(self._cache_path).free >= _ROOM_BYTES
        except OSError:
            return False


class KernelCache(NullCache):
    """What a dispatcher of numba's asks for machine code; the digest is computed when it first does."""

    def __init__(self, kernel: Dispatcher, kind: str) -> None:
        self._kernel = kernel
        self._kind = kind

    @cached_property
    def digest(self) -> str:
        """What the machine code depends on: code_digest.py."""
        return digest(self._kernel)

    def _folders(self) -> Iterator[_Folder]:
        """Yield where to look, and where to save: the first that can be written."""
        function = self._kernel.py_func
        path = inspect.getfile(function)
        shared = [_Shared] if config.CACHE_DIR else []  # type: ignore[attr-defined]  # numba sets it from the environment
        places: list[Any] = [own(function, path) for own in (*shared, InTreeCacheLocator, UserWideCacheLocator)]
        for place in (*places, *(_Spare(function, path, folder) for folder in _spare_folders)):
            # A user without a home has a folder of caches that is called "~", in whichever folder the process runs.
            if Path(place.get_cache_path()).is_absolute():
                yield _Folder(self._kernel, self.digest, place)

    @property
    def cache_path(self) -> str:
        """The folder that is looked into first."""
        return str(next(self._folders()).cache_path)

    def is_stored(self) -> bool:
        """Tell whether a folder holds undamaged machine code for this processor."""
        target = cpu_target.target_context.codegen().magic_tuple()
        return any(folder.files.is_stored(target) for folder in self._folders())

    def can_save(self) -> bool:
        """Tell whether a folder can be written."""
        return any(folder.has_room() for folder in self._folders())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load code for arguments of these types; None if there is none."""
        for folder in self._folders():
            loaded = folder.load_overload(sig, target_context)
            if loaded is not None:
                return loaded
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save code for arguments of these types, where that is possible."""
        for folder in self._folders():
            try:
                folder.save_overload(sig, data)
            except OSError as error:
                failed = folder.cache_path, error
            else:
                _LOG.info("compiled %s %s", self._kind, self._kernel.py_func.__name__)
                return
        _report("compiled kernels cannot be saved, so every start compiles them; the last folder tried is", *failed)


def _python() -> str:
    return f"py{sys.version_info[0]}{sys.version_info[1]}{sys.abiflags}"


def _forget_old(folder: Path, name: str, python: str) -> None:
    """Remove all but the newest versions of a kernel, and those named by line numbers, as numba does."""
    # Another process may be removing the same files, or may have lost the right to.
    with suppress(OSError):
        indices = sorted(folder.glob(f"{name}-*.{python}.nbi"), key=lambda path: path.stat().st_mtime, reverse=True)
        by_digest = [path for path in indices if len(_version(path, name)) == _DIGITS]
        for path in {*indices} - {*by_digest[:_KEPT]}:
            path.unlink(missing_ok=True)
            for code in folder.glob(f"{path.stem}.*.nbc"):
                code.unlink(missing_ok=True)


def _version(index: Path, name: str) -> str:
    return index.name[len(name) + 1 :].partition(".")[0]
