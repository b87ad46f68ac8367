package samplerd

import (
	"encoding/binary"
	"math"
	"unsafe"

	pb "samplerd.dev/go/samplerd/v1"
)

var isLittleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// F32 makes a tensor of rows x (len(data) / rows) numbers, row after row; rows below 1 count as 1. On a little-endian
// machine the tensor refers to data, so leave data unchanged until the call has returned. Data that does not divide
// into rows is refused by the server, naming tensor.data.
func F32(data []float32, rows int) *pb.Tensor {
	return tensor(pb.Dtype_DTYPE_F32, littleEndian(data, putUint32), len(data), rows)
}

// F64 makes a tensor of binary64 as [F32] does of binary32; the server rounds it to binary32.
func F64(data []float64, rows int) *pb.Tensor {
	return tensor(pb.Dtype_DTYPE_F64, littleEndian(data, putUint64), len(data), rows)
}

// F16 makes a tensor of binary16, half the bytes of [F32]; see [Float16] for the rounding.
func F16(data []float32, rows int) *pb.Tensor {
	return tensor(pb.Dtype_DTYPE_F16, littleEndian(halves(data, Float16), putUint16), len(data), rows)
}

// BF16 makes a tensor of bfloat16, half the bytes of [F32]; see [BFloat16] for the rounding.
func BF16(data []float32, rows int) *pb.Tensor {
	return tensor(pb.Dtype_DTYPE_BF16, littleEndian(halves(data, BFloat16), putUint16), len(data), rows)
}

// F16Bits makes a tensor of numbers that are the bits of binary16 already. Go has no type of its own for these. As with
// [F32] the tensor refers to data.
func F16Bits(data []uint16, rows int) *pb.Tensor {
	return tensor(pb.Dtype_DTYPE_F16, littleEndian(data, putUint16), len(data), rows)
}

// BF16Bits makes a tensor of numbers that are the bits of bfloat16 already: see [F16Bits].
func BF16Bits(data []uint16, rows int) *pb.Tensor {
	return tensor(pb.Dtype_DTYPE_BF16, littleEndian(data, putUint16), len(data), rows)
}

// Float16 gives the bits of the binary16 nearest to x, ties to even. What is too large becomes infinite; NaN stays NaN.
func Float16(x float32) uint16 {
	bits := math.Float32bits(x)
	sign := uint16(bits >> 16 & 0x8000)
	magnitude := bits & 0x7fffffff
	switch {
	case magnitude > 0x7f800000:
		return sign | 0x7e00 | uint16(magnitude>>13&0x3ff)
	case magnitude >= 0x477ff000: // halfway from the largest binary16, 65504, to 65536
		return sign | 0x7c00
	case magnitude < 0x38800000: // below 2^-14: subnormal, a multiple of 2^-24; adding 0.5 rounds to that
		sum := math.Float32frombits(magnitude) + 0.5
		return sign | uint16(math.Float32bits(sum)-math.Float32bits(0.5))
	default: // 112 is the difference of the exponents' biases
		return sign | uint16(roundShift(magnitude-112<<23, 13))
	}
}

// BFloat16 gives the bits of the bfloat16 nearest to x, ties to even. What is too large becomes infinite; NaN stays
// NaN.
func BFloat16(x float32) uint16 {
	bits := math.Float32bits(x)
	if bits&0x7fffffff > 0x7f800000 {
		return uint16(bits>>16) | 0x40 // the quiet bit: a NaN whose payload is cut off must not become infinite
	}
	return uint16(roundShift(bits, 16))
}

// Int32s reads raw_samples: little-endian int32.
func Int32s(raw []byte) []int32 {
	values := make([]int32, len(raw)/4)
	for i := range values {
		values[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return values
}

// Float32s reads the raw_samples of log-probabilities: little-endian binary32.
func Float32s(raw []byte) []float32 {
	values := make([]float32, len(raw)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return values
}

func tensor(dtype pb.Dtype, data []byte, numbers, rows int) *pb.Tensor {
	rows = max(rows, 1)
	return &pb.Tensor{Dtype: dtype, Rows: uint32(rows), VocabSize: uint32(numbers / rows), Data: data}
}

// roundShift drops the lowest bits, rounding to nearest, ties to even. A carry into the exponent is what rounding up
// to the next power of two (or to infinity) means.
func roundShift(bits uint32, shift uint) uint32 {
	isOdd := bits >> shift & 1
	return (bits + 1<<(shift-1) - 1 + isOdd) >> shift
}

func halves(data []float32, convert func(float32) uint16) []uint16 {
	converted := make([]uint16, len(data))
	for i, x := range data {
		converted[i] = convert(x)
	}
	return converted
}

// littleEndian gives the bytes of numbers: those in memory where they are little-endian there, else a copy.
func littleEndian[T any](data []T, put func([]byte, T)) []byte {
	if len(data) == 0 {
		return nil
	}
	size := int(unsafe.Sizeof(data[0]))
	if isLittleEndian {
		return unsafe.Slice((*byte)(unsafe.Pointer(&data[0])), size*len(data))
	}
	encoded := make([]byte, size*len(data))
	for i, x := range data {
		put(encoded[size*i:], x)
	}
	return encoded
}

func putUint16(b []byte, x uint16)  { binary.LittleEndian.PutUint16(b, x) }
func putUint32(b []byte, x float32) { binary.LittleEndian.PutUint32(b, math.Float32bits(x)) }
func putUint64(b []byte, x float64) { binary.LittleEndian.PutUint64(b, math.Float64bits(x)) }
