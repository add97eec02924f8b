"""Eight numbers at a time inside of numba's functions: LLVM's vectors as types, and the operations that kernels need.

Whether LLVM turns a scalar loop into a vector loop depends on hidden details; a loop that is written with these types
is a vector loop. A processor with shorter registers uses several for each value, so the code is the same everywhere.
"""

# mypy: ignore-errors
# numba infers the types itself.

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

WIDTH = 8
"""How many numbers a vector has."""


class Lanes(types.Type):
    """A vector of numbers of one type, mostly of `WIDTH`."""

    def __init__(self, name, element, width=WIDTH):
        self.element, self.width = element, width
        super().__init__(name=name)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(kind.element, kind.width))


_I1, _I16, _I32, _I64, _FLOAT = ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
FLOATS, INTS, LONGS = Lanes("f32x8", _FLOAT), Lanes("i32x8", _I32), Lanes("i64x8", _I64)
WIDE = Lanes("f32x16", _FLOAT, 2 * WIDTH)
_V16, _V32, _V64, _VF = (ir.VectorType(each, WIDTH) for each in (_I16, _I32, _I64, _FLOAT))


def _all(vector, value):
    return ir.Constant(vector, [value] * WIDTH)


def _operator(which, kind, name):
    infer_global(which)(type("_Template", (ConcreteTemplate,), {"key": which, "cases": [signature(kind, kind, kind)]}))
    lower_builtin(which, kind, kind)(lambda context, b, signature, values: getattr(b, name)(*values))


for _name in ("add", "sub", "mul", "truediv"):
    _operator(getattr(operator, _name), FLOATS, f"f{_name}".replace("true", ""))
for _name in ("add", "mul"):
    _operator(getattr(operator, _name), WIDE, f"f{_name}")
for _name in ("add", "sub", "and_", "or_", "xor"):
    _operator(getattr(operator, _name), INTS, _name)


def _spread(b, value, vector):
    first = b.insert_element(ir.Constant(vector, ir.Undefined), value, _I32(0))
    return b.shuffle_vector(first, ir.Constant(vector, ir.Undefined), _all(_V32, 0))


@intrinsic
def floats(context, value):
    """Return a number in each lane."""
    return FLOATS(types.float32), lambda _, b, signature, values: _spread(b, values[0], _VF)


@intrinsic
def ints(context, value):
    """Return an int32 in each lane."""
    return INTS(types.int32), lambda _, b, signature, values: _spread(b, values[0], _V32)


@intrinsic
def counting(context, value):
    """Return the uint64 numbers from a value on."""

    def build(_, b, signature, values):
        return b.add(_spread(b, values[0], _V64), ir.Constant(_V64, list(range(WIDTH))))

    return LONGS(types.uint64), build


@intrinsic
def every_second(context, value):
    """Return uint64 numbers from a value on, each two more than the one before."""

    def build(_, b, signature, values):
        return b.add(_spread(b, values[0], _V64), ir.Constant(_V64, list(range(0, 2 * WIDTH, 2))))

    return LONGS(types.uint64), build


def _pointer(context, b, array, value, index, vector):
    data = context.make_array(array)(context, b, value).data
    return b.bitcast(b.gep(data, [index]), vector.as_pointer())


@intrinsic
def load(context, array, index):
    """Return the lanes from a flat index of a contiguous float32 or int32 array on."""
    vector, kind = (_VF, FLOATS) if array.dtype == types.float32 else (_V32, INTS)

    def build(context, b, signature, values):
        return b.load(_pointer(context, b, array, *values, vector), align=4)

    return kind(array, types.int64), build


_VW = ir.VectorType(_FLOAT, 2 * WIDTH)


@intrinsic
def load_wide(context, array, index):
    """Return twice as many lanes as `load` does, of a float32 array."""

    def build(context, b, signature, values):
        return b.load(_pointer(context, b, signature.args[0], *values, _VW), align=4)

    return WIDE(array, types.int64), build


@intrinsic
def all_wide(context, array, index):
    """Return the number at a flat index of a contiguous float32 array, in each of twice as many lanes."""

    def build(context, b, signature, values):
        data = context.make_array(signature.args[0])(context, b, values[0]).data
        nothing, places = ir.Constant(_VW, ir.Undefined), ir.Constant(ir.VectorType(_I32, 2 * WIDTH), [0] * 2 * WIDTH)
        return b.shuffle_vector(b.insert_element(nothing, b.load(b.gep(data, [values[1]])), _I32(0)), nothing, places)

    return WIDE(array, types.int64), build


@intrinsic
def store(context, array, index, lanes):
    """Write lanes into a contiguous float32 or int32 array, from a flat index on."""
    vector = _VF if lanes == FLOATS else _VW if lanes == WIDE else _V32

    def build(context, b, signature, values):
        b.store(values[2], _pointer(context, b, array, values[0], values[1], vector), align=4)
        return context.get_constant(types.none, None)

    return types.void(array, types.int64, lanes), build


@intrinsic
def load_bf16(context, address):
    """Return the eight bf16 numbers at an address."""

    def build(_, b, signature, values):
        halves = b.load(b.inttoptr(values[0], _V16.as_pointer()), align=2)
        return b.bitcast(b.shl(b.zext(halves, _V32), _all(_V32, 16)), _VF)

    return FLOATS(types.int64), build


@intrinsic
def load_words(context, address):
    """Return the eight int32 numbers at an address, which need not be a multiple of 4."""

    def build(_, b, signature, values):
        return b.load(b.inttoptr(values[0], _V32.as_pointer()), align=2)

    return INTS(types.int64), build


@intrinsic
def store_words(context, address, x):
    """Write eight int32 numbers to an address, which need not be a multiple of 4."""

    def build(context, b, signature, values):
        b.store(values[1], b.inttoptr(values[0], _V32.as_pointer()), align=2)
        return context.get_constant(types.none, None)

    return types.void(types.int64, INTS), build


@intrinsic
def store_upper(context, address, bits):
    """Write the upper halves of eight int32 numbers to an address."""

    def build(context, b, signature, values):
        halves = b.trunc(b.lshr(values[1], _all(_V32, 16)), _V16)
        b.store(halves, b.inttoptr(values[0], _V16.as_pointer()), align=2)
        return context.get_constant(types.none, None)

    return types.void(types.int64, INTS), build


@intrinsic
def bits(context, x):
    """Return the bits of the numbers."""
    return INTS(FLOATS), lambda _, b, signature, values: b.bitcast(values[0], _V32)


@intrinsic
def from_bits(context, x):
    """Return the numbers with these bits."""
    return FLOATS(INTS), lambda _, b, signature, values: b.bitcast(values[0], _VF)


def _masks(compare):
    return lambda _, b, signature, values: b.sext(compare(b, *values), _V32)


@intrinsic
def positive(context, x):
    """Return lanes with all bits set where x > 0."""
    return INTS(FLOATS), _masks(lambda b, x: b.fcmp_ordered(">", x, _all(_VF, 0.0)))


@intrinsic
def negative(context, x):
    """Return lanes with all bits set where x < 0."""
    return INTS(FLOATS), _masks(lambda b, x: b.fcmp_ordered("<", x, _all(_VF, 0.0)))


@intrinsic
def zero(context, x):
    """Return lanes with all bits set where x = 0."""
    return INTS(FLOATS), _masks(lambda b, x: b.fcmp_ordered("==", x, _all(_VF, 0.0)))


@intrinsic
def above(context, x, y):
    """Return lanes with all bits set where x > y, as signed numbers."""
    return INTS(INTS, INTS), _masks(lambda b, x, y: b.icmp_signed(">", x, y))


@intrinsic
def below(context, x, y):
    """Return lanes with all bits set where x < y, as unsigned numbers."""
    return INTS(INTS, INTS), _masks(lambda b, x, y: b.icmp_unsigned("<", x, y))


@intrinsic
def same(context, x, y):
    """Return lanes with all bits set where x = y."""
    return INTS(INTS, INTS), _masks(lambda b, x, y: b.icmp_signed("==", x, y))


@intrinsic
def larger(context, x, y):
    """Return the larger of x and y, as unsigned numbers."""
    return INTS(INTS, INTS), lambda _, b, signature, values: b.select(b.icmp_unsigned(">", *values), *values)


@intrinsic
def lifted(context, x, by):
    """Return the numbers shifted by so many bits to the left."""
    return INTS(INTS, types.int32), lambda _, b, signature, values: b.shl(values[0], _spread(b, values[1], _V32))


@intrinsic
def without(context, x, y):
    """Return x without the bits that are set in y."""
    return INTS(INTS, INTS), lambda _, b, signature, values: b.and_(values[0], b.not_(values[1]))


@intrinsic
def upper_halves(context, x):
    """Return the numbers shifted by 16 bits to the right."""
    return INTS(INTS), lambda _, b, signature, values: b.lshr(values[0], _all(_V32, 16))


def _over(combine):
    def build(_, b, signature, values):
        made = b.extract_element(values[0], _I32(0))
        for lane in range(1, WIDTH):
            made = combine(b, made, b.extract_element(values[0], _I32(lane)))
        return made

    return build


@intrinsic
def anything(context, x):
    """Return whether a bit of any lane is set."""

    def build(_, b, signature, values):
        some = b.icmp_unsigned("!=", values[0], _all(_V32, 0))
        return b.icmp_unsigned("!=", b.bitcast(some, ir.IntType(WIDTH)), ir.Constant(ir.IntType(WIDTH), 0))

    return types.boolean(INTS), build


@intrinsic
def total(context, x):
    """Return the sum of the lanes."""
    return types.int32(INTS), _over(lambda b, x, y: b.add(x, y))


@intrinsic
def largest(context, x):
    """Return the largest lane, as an unsigned number."""
    return types.uint32(INTS), _over(lambda b, x, y: b.select(b.icmp_unsigned(">", x, y), x, y))
