package samplerd

import (
	"bytes"
	"math"
	"slices"
	"testing"

	pb "samplerd.dev/go/samplerd/v1"
)

func TestFloat16(t *testing.T) {
	inf := float32(math.Inf(1))
	for x, want := range map[float32]uint16{
		0: 0, 1: 0x3c00, -2.5: 0xc100, 65504: 0x7bff, inf: 0x7c00, -inf: 0xfc00,
		65519.996: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, // overflow begins halfway to 65536
		1 + 1.0/2048: 0x3c00, 1 + 3.0/2048: 0x3c02, 1 + 1.0/2048 + 1e-6: 0x3c01, // ties to even
		0x1p-14: 0x0400, 0x1p-24: 1, 0x1p-25: 0, 0x1.8p-24: 2, 0x1.000002p-25: 1, 0x1p-30: 0, // subnormal
		0x1.ff8p-15: 0x03ff, 0x1.ffcp-15: 0x0400, 0x1.ffap-15: 0x03ff, 0x1p-149: 0,
	} {
		if got := Float16(x); got != want {
			t.Errorf("Float16(%v) = %#04x, not %#04x", x, got, want)
		}
	}
	if got := Float16(float32(math.Copysign(0, -1))); got != 0x8000 {
		t.Errorf("Float16(-0) = %#04x", got)
	}
}

func TestBFloat16(t *testing.T) {
	inf := float32(math.Inf(1))
	for x, want := range map[float32]uint16{
		0: 0, 1: 0x3f80, -2.5: 0xc020, inf: 0x7f80, -inf: 0xff80, math.MaxFloat32: 0x7f80,
		1 + 1.0/256: 0x3f80, 1 + 3.0/256: 0x3f82, 1 + 1.0/256 + 1e-6: 0x3f81, // ties to even
	} {
		if got := BFloat16(x); got != want {
			t.Errorf("BFloat16(%v) = %#04x, not %#04x", x, got, want)
		}
	}
}

func TestNaNStaysNaN(t *testing.T) {
	for _, bits := range []uint32{0x7fc00000, 0x7f800001, 0xff800001, 0x7fffffff} {
		x := math.Float32frombits(bits)
		if h := Float16(x); h&0x7fff <= 0x7c00 {
			t.Errorf("Float16(NaN %#x) = %#x", bits, h)
		}
		if h := BFloat16(x); h&0x7fff <= 0x7f80 {
			t.Errorf("BFloat16(NaN %#x) = %#x", bits, h)
		}
	}
}

// Every binary16 is a float32, and rounding it must give it back.
func TestFloat16RoundTrip(t *testing.T) {
	for bits := range uint32(0x7c00) {
		exponent, fraction := int(bits>>10), float64(bits&0x3ff)
		x := math.Ldexp(fraction, -24)
		if exponent > 0 {
			x = math.Ldexp(1024+fraction, exponent-25)
		}
		if got := Float16(float32(x)); uint32(got) != bits {
			t.Fatalf("Float16(%v) = %#04x, not %#04x", x, got, bits)
		}
	}
}

func TestTensor(t *testing.T) {
	data := []float32{1, 2, 3, 4, 5, 6}
	got := F32(data, 2)
	if got.GetRows() != 2 || got.GetVocabSize() != 3 || got.GetDtype() != pb.Dtype_DTYPE_F32 {
		t.Errorf("made %v", got)
	}
	if want := []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40}; !bytes.Equal(got.GetData()[:8], want) {
		t.Errorf("bytes %x", got.GetData())
	}
	if !slices.Equal(Float32s(got.GetData()), data) {
		t.Errorf("reads back as %v", Float32s(got.GetData()))
	}
	one := []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x3f}
	if got := F64([]float64{1}, 0); got.GetRows() != 1 || !bytes.Equal(got.GetData(), one) {
		t.Errorf("made %v", got)
	}
	if got := F16(nil, 1); len(got.GetData()) != 0 {
		t.Errorf("made %v of nothing", got)
	}
}

func TestBitsAreNotCopied(t *testing.T) {
	for dtype, make := range map[pb.Dtype]func([]uint16, int) *pb.Tensor{
		pb.Dtype_DTYPE_F16: F16Bits, pb.Dtype_DTYPE_BF16: BF16Bits,
	} {
		data := []uint16{1, 2, 3, 4}
		got := make(data, 2)
		data[3] = 0x3c00
		if got.GetDtype() != dtype || got.GetVocabSize() != 2 || !bytes.Equal(got.GetData(), []byte{1, 0, 2, 0, 3, 0, 0, 0x3c}) {
			t.Errorf("made %v", got)
		}
	}
}

func TestResultReadsBothForms(t *testing.T) {
	for _, reply := range []*pb.SampleResponse{
		{Samples: []int32{1, 2, 3, -1}},
		{RawSamples: []byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 255, 255, 255, 255}},
	} {
		result := newResult(&pb.SampleRequest{NumSamples: 2}, reply)
		if result.Rows() != 2 || !slices.Equal(result.Row(1), []int32{3, -1}) {
			t.Errorf("%d rows, the last %v", result.Rows(), result.Row(1))
		}
	}
}
