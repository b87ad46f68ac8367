# frozen_string_literal: true

module Samplerd
  # Turns arrays of numbers into the Tensor of a request: one row ([1.0, 2.0]) or several of the same length
  # ([[1.0, 2.0], [0.0, 3.0]]). f32 and f64 are packed by Ruby itself, in one go.
  module Tensors
    # Bits of exponent and of mantissa.
    FORMATS = { f16: [5, 10], bf16: [8, 7] }.freeze
    private_constant :FORMATS

    module_function

    # Rows as binary32, 4 bytes a number, rounded to nearest.
    def f32(rows)
      tensor(rows, :DTYPE_F32) { |flat| flat.pack("e*") }
    end

    # Rows as binary64, 8 bytes a number; the server rounds them to binary32.
    def f64(rows)
      tensor(rows, :DTYPE_F64) { |flat| flat.pack("E*") }
    end

    # Rows as binary16, 2 bytes a number: rounded to nearest, ties to even; NaN stays NaN, 65520 and more is infinite.
    def f16(rows)
      tensor(rows, :DTYPE_F16) { |flat| narrow(flat, *FORMATS.fetch(:f16)) }
    end

    # Rows as bfloat16, 2 bytes a number: rounded to nearest, ties to even; NaN stays NaN.
    def bf16(rows)
      tensor(rows, :DTYPE_BF16) { |flat| narrow(flat, *FORMATS.fetch(:bf16)) }
    end

    # Rows that are binary16 or bfloat16 already (:f16, :bf16): a String of their bytes, little-endian, row after row. Ruby
    # has no numbers of 16 bits; a library of tensors gives such a String. Nothing is converted.
    def bits(data, dtype, rows: 1)
      numbers = data.bytesize / 2
      raise ArgumentError, "no such dtype of 16 bits: #{dtype}" unless FORMATS.key?(dtype)
      if data.bytesize.odd? || rows < 1 || numbers.zero? || !(numbers % rows).zero?
        raise ArgumentError, "#{data.bytesize} bytes are not #{rows} rows"
      end

      V1::Tensor.new(dtype: :"DTYPE_#{dtype.upcase}", rows: rows, vocab_size: numbers / rows, data: data)
    end

    # Rows in a format named :f32, :f16, :bf16 or :f64.
    def encode(rows, dtype)
      raise ArgumentError, "no such dtype: #{dtype}" unless %i[f32 f16 bf16 f64].include?(dtype)

      public_send(dtype, rows)
    end

    def tensor(rows, dtype)
      table = rows.first.is_a?(Array) ? rows : [rows]
      size = table.first.size
      is_even = table.all? { |row| row.size == size }
      raise ArgumentError, "expected rows of one length, at least 1" if size.zero? || !is_even

      V1::Tensor.new(dtype: dtype, rows: table.size, vocab_size: size, data: yield(table.flatten(1)))
    end
    private_class_method :tensor

    # Rounds once, from the double: by way of binary32 a number just above a tie would end on the wrong side.
    def narrow(flat, exponent_bits, mantissa_bits)
      words = flat.pack("E*").unpack("V*")
      bits = words.each_slice(2).map { |low, high| round(low, high, exponent_bits, mantissa_bits) }
      bits.pack("v*")
    end
    private_class_method :narrow

    # The upper word of a double has its sign, 11 bits of exponent and 20 of mantissa; of the lower word it only matters
    # whether it is zero.
    def round(low, high, exponent_bits, mantissa_bits)
      sign = (high >> 31) << (exponent_bits + mantissa_bits)
      magnitude = (high & 0x7fffffff) | (low.zero? ? 0 : 1)
      infinity = ((1 << exponent_bits) - 1) << mantissa_bits
      return sign | infinity | (1 << (mantissa_bits - 1)) if magnitude > 0x7ff00000 # NaN, made quiet
      return sign if magnitude < 0x00100000 # below 2^-1022

      steps = (magnitude >> 20) - 1023 - (2 - (1 << (exponent_bits - 1))) # exponents above the smallest normal one
      shift = 20 - mantissa_bits + [0, -steps].max
      return sign if shift > 21 # less than half of the smallest positive number

      significand = (magnitude & 0xfffff) | 0x100000
      rounded = (significand + (1 << (shift - 1)) - 1 + ((significand >> shift) & 1)) >> shift
      sign | [([steps, 0].max << mantissa_bits) + rounded, infinity].min
    end
    private_class_method :round
  end
end
