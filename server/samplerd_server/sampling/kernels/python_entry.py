"""The function by which Python calls a linked kernel: it takes Python's objects apart and calls the kernel with them.

Numba has such a function of its own, which needs numba in the process. This one needs Python and numpy: it reads the
fields of an array where numpy's C interface keeps them, in a fifth of the time that numba's dispatcher takes. Rule 1:
what a kernel is not compiled for (another dtype, a view with gaps) is a TypeError, never converted. Rule 2: whether an
array may be written is the caller's matter.
"""

# Numba's compiler has annotations here and there only.
# mypy: disable-error-code="no-untyped-call, attr-defined"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import as_dtype

from samplerd_server.sampling.kernels.linked import ARRAY_DATA, ARRAY_FLAGS, ARRAY_LENGTHS, ARRAY_NDIM, ARRAY_TYPE

__all__ = ["PythonEntry"]

_I1, _I32, _I64, _F64 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.DoubleType()
_POINTER = ir.IntType(8).as_pointer()
_PLAIN = 0x101
"""Numpy's flags of an array that is contiguous and aligned."""
_MOST_TYPES = 16
"""Types of arrays that one kernel may take."""
_OF_OBJECT = 8
"""Where an object of Python says what type it has."""


class PythonEntry:
    """The LLVM module of such a function."""

    def __init__(self, context: Any, described: Any, name: str, types_name: str, *, releases_lock: bool) -> None:
        """Write the module.

        Args:
            context: numba's target.
            described: numba's description of the kernel.
            name: of the function.
            types_name: of an array of pointers that the loader fills: numpy's class of arrays, then `dtypes`.
            releases_lock: whether the kernel runs without the interpreter lock.

        """
        self.dtypes: list[Any] = []
        """Numpy's dtypes of the arrays that the kernel takes, each once."""
        self._context = context
        self._module = context.codegen()._create_empty_module(name)  # noqa: SLF001  # as numba's wrappers do
        kind = ir.FunctionType(_POINTER, [_POINTER, _POINTER.as_pointer(), _I64])
        function = ir.Function(self._module, kind, name=name)
        self._builder = builder = ir.IRBuilder(function.append_basic_block("entry"))
        argument_types = described.argtypes
        table_kind = ir.ArrayType(_POINTER, _MOST_TYPES)
        self._table = ir.GlobalVariable(self._module, table_kind, types_name)
        self._table.initializer = ir.Constant(table_kind, None)
        self._refuse_unless(builder.icmp_signed("==", function.args[2], _I64(len(argument_types))))
        arguments = [
            self._take(kind, builder.load(builder.gep(function.args[1], [_I64(place)])))
            for place, kind in enumerate(argument_types)
        ]
        native = context.declare_function(self._module, described)
        thread = self._call("PyEval_SaveThread", _POINTER) if releases_lock else None
        status, result = context.call_conv.call_function(builder, native, described.restype, argument_types, arguments)
        if thread is not None:
            self._call("PyEval_RestoreThread", ir.VoidType(), thread)
        with cgutils.if_unlikely(builder, status.is_error):
            # No kernel raises; what numba raises by itself in one is that there is no memory.
            self._call("PyErr_NoMemory", _POINTER)
            builder.ret(_POINTER(None))
        builder.ret(self._give(described.restype, result))

    def __str__(self) -> str:
        """Give the text of the module."""
        return str(cgutils.normalize_ir_text(str(self._module)))

    def _call(self, name: str, gives: ir.Type, *arguments: ir.Value) -> ir.Value:
        """Call a function of Python's C interface."""
        kind = ir.FunctionType(gives, [argument.type for argument in arguments])
        return self._builder.call(cgutils.get_or_insert_function(self._module, kind, name), arguments)

    def _global(self, name: str) -> ir.Value:
        """Give where a variable of Python's C interface lies."""
        return self._module.globals.get(name) or ir.GlobalVariable(self._module, _POINTER, name)

    def _fail_if(self, failed: ir.Value) -> None:
        """Return NULL: Python has been told what is wrong."""
        with cgutils.if_unlikely(self._builder, failed):
            self._builder.ret(_POINTER(None))

    def _refuse_unless(self, fits: ir.Value) -> None:
        """Raise TypeError."""
        builder = self._builder
        with cgutils.if_unlikely(builder, builder.not_(fits)):
            text = "a kernel was called with arguments that it does not take. This is a bug."
            message = builder.bitcast(self._context.insert_const_string(self._module, text), _POINTER)
            self._call("PyErr_SetString", ir.VoidType(), builder.load(self._global("PyExc_TypeError")), message)
            builder.ret(_POINTER(None))

    def _field(self, owner: ir.Value, at: int, kind: ir.Type) -> ir.Value:
        """Read a field of an object."""
        builder = self._builder
        return builder.load(builder.bitcast(builder.gep(owner, [_I64(at)]), kind.as_pointer()))

    def _slot(self, place: int) -> ir.Value:
        """Give where the loader has put a type."""
        return self._builder.gep(self._table, [_I32(0), _I32(place)])

    def _take(self, kind: Any, owner: ir.Value) -> ir.Value:
        """Turn an object into what the kernel takes."""
        if isinstance(kind, types.Array):
            return self._take_array(kind, owner)
        if isinstance(kind, types.Bytes):
            return self._take_bytes(kind, owner)
        if isinstance(kind, types.BaseTuple):
            return self._take_tuple(kind, owner)
        builder, number = self._builder, self._context.get_value_type(kind)
        if isinstance(kind, types.Boolean):
            truth = self._call("PyObject_IsTrue", _I32, owner)
            self._fail_if(builder.icmp_signed("<", truth, _I32(0)))
            return builder.icmp_signed("!=", truth, _I32(0))
        if isinstance(kind, types.Float):
            taken = self._call("PyFloat_AsDouble", _F64, owner)
            self._fail_if_told(builder.fcmp_ordered("==", taken, _F64(-1.0)))
            return taken if number == _F64 else builder.fptrunc(taken, number)
        if isinstance(kind, types.Integer):
            whole = self._call("PyNumber_Index", _POINTER, owner)
            self._fail_if(cgutils.is_null(builder, whole))
            name = "PyLong_AsLongLong" if kind.signed else "PyLong_AsUnsignedLongLong"
            taken = self._call(name, _I64, whole)
            self._call("Py_DecRef", ir.VoidType(), whole)
            self._fail_if_told(builder.icmp_signed("==", taken, _I64(-1)))
            return taken if number == _I64 else builder.trunc(taken, number)
        raise TypeError(f"no kernel takes {kind} from Python. This is a bug.")

    def _fail_if_told(self, may_be: ir.Value) -> None:
        """Return NULL if a number that also stands for an error does stand for one."""
        builder = self._builder
        with cgutils.if_unlikely(builder, may_be):
            self._fail_if(cgutils.is_not_null(builder, self._call("PyErr_Occurred", _POINTER)))

    def _take_tuple(self, kind: Any, owner: ir.Value) -> ir.Value:
        size = self._call("PyTuple_Size", _I64, owner)
        self._fail_if(self._builder.icmp_signed("<", size, _I64(0)))
        self._refuse_unless(self._builder.icmp_signed("==", size, _I64(len(kind.types))))
        items = [
            self._take(own, self._call("PyTuple_GetItem", _POINTER, owner, _I64(place)))
            for place, own in enumerate(kind.types)
        ]
        return self._context.make_tuple(self._builder, kind, items)

    def _take_bytes(self, kind: Any, owner: ir.Value) -> ir.Value:
        builder = self._builder
        begin, size = cgutils.alloca_once(builder, _POINTER), cgutils.alloca_once(builder, _I64)
        failed = self._call("PyBytes_AsStringAndSize", _I32, owner, begin, size)
        self._fail_if(builder.icmp_signed("<", failed, _I32(0)))
        return self._array(kind, builder.load(begin), builder.load(size), 1)

    def _take_array(self, kind: Any, owner: ir.Value) -> ir.Value:
        assert kind.ndim == 1, "kernels take arrays of one axis. This is a bug."
        builder = self._builder
        kind_of_owner = self._field(owner, _OF_OBJECT, _POINTER)
        self._refuse_unless(builder.icmp_unsigned("==", kind_of_owner, builder.load(self._slot(0))))
        flags = builder.and_(self._field(owner, ARRAY_FLAGS, _I32), _I32(_PLAIN))
        self._refuse_unless(builder.icmp_signed("==", flags, _I32(_PLAIN)))
        self._refuse_unless(builder.icmp_signed("==", self._field(owner, ARRAY_NDIM, _I32), _I32(1)))
        dtype = as_dtype(kind.dtype)
        if dtype not in self.dtypes:
            self.dtypes.append(dtype)
            assert len(self.dtypes) < _MOST_TYPES, "a kernel takes arrays of too many types. This is a bug."
        slot = self._slot(1 + self.dtypes.index(dtype))
        own = self._field(owner, ARRAY_TYPE, _POINTER)
        expected = builder.load(slot)
        with cgutils.if_unlikely(builder, builder.icmp_unsigned("!=", own, expected)):
            equal = self._call("PyObject_RichCompareBool", _I32, own, expected, _I32(2))
            self._fail_if(builder.icmp_signed("<", equal, _I32(0)))
            self._refuse_unless(builder.icmp_signed("==", equal, _I32(1)))
            # The next array is likely to have the same object. It stays, since it is looked for by its address.
            self._call("Py_IncRef", ir.VoidType(), own)
            builder.store(own, slot)
        lengths = self._field(owner, ARRAY_LENGTHS, _I64.as_pointer())
        return self._array(kind, self._field(owner, ARRAY_DATA, _POINTER), builder.load(lengths), dtype.itemsize)

    def _array(self, kind: Any, begin: ir.Value, length: ir.Value, item_bytes: int) -> ir.Value:
        array = self._context.make_array(kind)(self._context, self._builder)
        data = self._builder.bitcast(begin, array.data.type)
        step = _I64(item_bytes)
        populate_array(array, data=data, shape=[length], strides=[step], itemsize=step, meminfo=None)
        return array._getvalue()  # noqa: SLF001  # numba has no public name for it

    def _give(self, kind: Any, value: ir.Value) -> ir.Value:
        """Turn what the kernel returns into an object; NULL if there is no memory for it."""
        builder = self._builder
        if isinstance(kind, types.NoneType):
            none = builder.bitcast(self._global("_Py_NoneStruct"), _POINTER)
            self._call("Py_IncRef", ir.VoidType(), none)
            return none
        if isinstance(kind, types.BaseTuple):
            made = self._call("PyTuple_New", _POINTER, _I64(len(kind.types)))
            self._fail_if(cgutils.is_null(builder, made))
            for place, own in enumerate(kind.types):
                item = self._give(own, builder.extract_value(value, place))
                # It takes the reference, also where it fails; a tuple without an item fails its reader.
                self._call("PyTuple_SetItem", _I32, made, _I64(place), item)
            return made
        if isinstance(kind, types.Boolean):
            return self._call("PyBool_FromLong", _POINTER, builder.zext(value, _I64))
        if isinstance(kind, types.Float):
            wide = value if value.type == _F64 else builder.fpext(value, _F64)
            return self._call("PyFloat_FromDouble", _POINTER, wide)
        if isinstance(kind, types.Integer):
            if kind.signed:
                wide = value if value.type == _I64 else builder.sext(value, _I64)
                return self._call("PyLong_FromLongLong", _POINTER, wide)
            wide = value if value.type == _I64 else builder.zext(value, _I64)
            return self._call("PyLong_FromUnsignedLongLong", _POINTER, wide)
        raise TypeError(f"no kernel gives {kind} to Python. This is a bug.")
