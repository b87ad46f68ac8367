# frozen_string_literal: true

require "helper"

class TensorsTest < Minitest::Test
  def bits(dtype, *values)
    Samplerd::Tensors.encode(values, dtype).data.unpack("v*")
  end

  def f16_value(bits)
    exponent = bits >> 10
    mantissa = bits & 0x3ff
    exponent.zero? ? Math.ldexp(mantissa, -24) : Math.ldexp(1024 + mantissa, exponent - 25)
  end

  def bf16_value(bits)
    [bits << 16].pack("V").unpack1("e")
  end

  # Every number is itself, the tie between it and the next goes to the even one, and what is next to the tie does not.
  def check_all(dtype, last, &)
    finite = (0...last).to_a
    values = finite.map(&)
    assert_equal finite, bits(dtype, *values)
    assert_equal finite.map { |each| each | 0x8000 }, bits(dtype, *values.map(&:-@))
    ties = values.each_cons(2).map { |one, other| (one + other) / 2 }
    even = finite[..-2].map { |each| each + (each & 1) }
    assert_equal even, bits(dtype, *ties)
    assert_equal finite[..-2], bits(dtype, *ties.map(&:prev_float))
    assert_equal finite[1..], bits(dtype, *ties.map(&:next_float))
  end

  def test_every_f16
    check_all(:f16, 0x7c00) { |each| f16_value(each) }
  end

  def test_every_bf16
    check_all(:bf16, 0x7f80) { |each| bf16_value(each) }
  end

  def test_ends
    infinity = Float::INFINITY
    assert_equal [0x7c00, 0xfc00, 0x7bff, 0x7c00, 0], bits(:f16, infinity, -infinity, 65_519.99, 65_520, 1e-300)
    assert_equal [0x7f80, 0xff80, 0x7f80, 0], bits(:bf16, infinity, -1e300, 3.4e38, Float::MIN)
    assert_equal 0x7e00, bits(:f16, Float::NAN).first & 0x7fff
    assert_equal 0x7fc0, bits(:bf16, Float::NAN).first & 0x7fff
  end

  def test_rows
    tensor = Samplerd::Tensors.f32([[1.0, -2], [0.5, 0]])
    assert_equal [:DTYPE_F32, 2, 2], [tensor.dtype, tensor.rows, tensor.vocab_size]
    assert_equal [1.0, -2.0, 0.5, 0.0].pack("e*"), tensor.data
    assert_equal 1, Samplerd::Tensors.f64([1.0]).rows
  end

  def test_bits_are_taken_as_they_are
    data = [0x3c00, 0, 0x7bff, 1].pack("v*")
    tensor = Samplerd::Tensors.bits(data, :bf16, rows: 2)
    assert_equal [:DTYPE_BF16, 2, 2, data], [tensor.dtype, tensor.rows, tensor.vocab_size, tensor.data]
    assert_equal :DTYPE_F16, Samplerd::Tensors.bits(data, :f16).dtype
    assert_raises(ArgumentError) { Samplerd::Tensors.bits(data, :f32) }
    [["abc", 1], ["", 1], [data, 3], [data, 0]].each do |bytes, rows|
      assert_raises(ArgumentError) { Samplerd::Tensors.bits(bytes, :f16, rows: rows) }
    end
  end

  def test_no_rows
    [[], [[]], [[1.0], [1.0, 2.0]]].each do |rows|
      assert_raises(ArgumentError) { Samplerd::Tensors.f32(rows) }
    end
    assert_raises(ArgumentError) { Samplerd::Tensors.encode([1.0], :f8) }
  end
end
