package dev.samplerd.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import dev.samplerd.v1.Dtype;
import dev.samplerd.v1.Tensor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;

/**
 * Turns arrays of numbers into the {@link Tensor} of a request.
 *
 * <p>Rows lie one after the other: number {@code j} of row {@code i} is {@code values[i * vocabSize + j]}. The numbers are
 * copied once, in bulk, so the array may be changed as soon as a method has returned. All methods throw {@link
 * IllegalArgumentException} if the numbers cannot be cut into that many rows of at least one number.
 */
public final class Tensors {
  private Tensors() {}

  /**
   * One row of binary32 numbers.
   *
   * @param row float[V], V at least 1
   * @return the row, 4 bytes a number
   */
  public static Tensor f32(float[] row) {
    return f32(row, 1);
  }

  /**
   * Rows of binary32 numbers.
   *
   * @param values float[rows x V], row-major
   * @param rows how many rows it holds; at least 1
   * @return the rows, 4 bytes a number
   */
  public static Tensor f32(float[] values, int rows) {
    return f32(FloatBuffer.wrap(values), rows);
  }

  /**
   * Rows of binary32 numbers, from a buffer of any kind.
   *
   * @param values what is left of it (from position to limit) is taken; its position stays where it is
   * @param rows how many rows it holds; at least 1
   * @return the rows, 4 bytes a number
   */
  public static Tensor f32(FloatBuffer values, int rows) {
    int size = values.remaining();
    ByteBuffer data = allocate(size, Float.BYTES);
    data.asFloatBuffer().put(values.duplicate());
    return tensor(Dtype.DTYPE_F32, data, size, rows);
  }

  /**
   * Rows of binary64 numbers; the server rounds them to binary32.
   *
   * @param values double[rows x V], row-major; finite ones within the range of binary32
   * @param rows how many rows it holds; at least 1
   * @return the rows, 8 bytes a number
   */
  public static Tensor f64(double[] values, int rows) {
    ByteBuffer data = allocate(values.length, Double.BYTES);
    data.asDoubleBuffer().put(values);
    return tensor(Dtype.DTYPE_F64, data, values.length, rows);
  }

  /**
   * Rows rounded to binary16: half the bytes on the wire, 11 significant bits.
   *
   * @param values float[rows x V], row-major; see {@link #toF16} for how they are rounded
   * @param rows how many rows it holds; at least 1
   * @return the rows, 2 bytes a number
   */
  public static Tensor f16(float[] values, int rows) {
    ByteBuffer data = allocate(values.length, Short.BYTES);
    for (float value : values) {
      data.putShort(toF16(value));
    }
    return tensor(Dtype.DTYPE_F16, data.flip(), values.length, rows);
  }

  /**
   * Rows rounded to bfloat16: half the bytes on the wire, 8 significant bits.
   *
   * @param values float[rows x V], row-major; see {@link #toBf16} for how they are rounded
   * @param rows how many rows it holds; at least 1
   * @return the rows, 2 bytes a number
   */
  public static Tensor bf16(float[] values, int rows) {
    ByteBuffer data = allocate(values.length, Short.BYTES);
    for (float value : values) {
      data.putShort(toBf16(value));
    }
    return tensor(Dtype.DTYPE_BF16, data.flip(), values.length, rows);
  }

  /**
   * Rows that are binary16 already, given by their bits, as {@code Float.floatToFloat16} of Java 20 gives them. Copied once,
   * as a {@code ByteString} cannot view an array of shorts.
   *
   * @param bits short[rows x V], row-major
   * @param rows how many rows it holds; at least 1
   * @return the rows, 2 bytes a number
   */
  public static Tensor f16Bits(short[] bits, int rows) {
    return bits(Dtype.DTYPE_F16, bits, rows);
  }

  /**
   * Rows that are bfloat16 already, given by their bits: see {@link #f16Bits}.
   *
   * @param bits short[rows x V], row-major
   * @param rows how many rows it holds; at least 1
   * @return the rows, 2 bytes a number
   */
  public static Tensor bf16Bits(short[] bits, int rows) {
    return bits(Dtype.DTYPE_BF16, bits, rows);
  }

  /**
   * Rows that lie in a buffer as the wire has them, little-endian: not copied, so leave them unchanged until the call has
   * returned.
   *
   * @param dtype what the numbers are
   * @param data what is left of it (from position to limit) is taken; its position stays where it is
   * @param rows how many rows it holds; at least 1
   * @return the rows
   */
  public static Tensor wrap(Dtype dtype, ByteBuffer data, int rows) {
    int width =
        switch (dtype) {
          case DTYPE_F16, DTYPE_BF16 -> Short.BYTES;
          case DTYPE_F32 -> Float.BYTES;
          case DTYPE_F64 -> Double.BYTES;
          default -> throw new IllegalArgumentException("no such dtype: " + dtype);
        };
    if (data.remaining() % width != 0) {
      throw new IllegalArgumentException(data.remaining() + " bytes are not whole numbers");
    }
    return tensor(dtype, data, data.remaining() / width, rows);
  }

  private static Tensor bits(Dtype dtype, short[] bits, int rows) {
    ByteBuffer data = allocate(bits.length, Short.BYTES);
    data.asShortBuffer().put(bits);
    return tensor(dtype, data, bits.length, rows);
  }

  /**
   * The nearest binary16, ties to even. NaN stays NaN; 65520 and more become infinite.
   *
   * @param value any number
   * @return its bits
   */
  public static short toF16(float value) {
    int bits = Float.floatToRawIntBits(value);
    int sign = bits >>> 16 & 0x8000;
    int magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
      return (short) (sign | 0x7e00 | magnitude >>> 13 & 0x3ff); // quiet, with the upper bits of what it carried
    }
    if (magnitude >= 0x477ff000) { // 65520, half-way from the largest binary16 to the next power of two
      return (short) (sign | 0x7c00);
    }
    if (magnitude < 0x38800000) { // below 2^-14 the steps are 2^-24; the product is exact, and rint rounds ties to even
      return (short) (sign | (int) Math.rint(Float.intBitsToFloat(magnitude) * 0x1p24));
    }
    int rebased = magnitude - (127 - 15 << 23);
    return (short) (sign | rebased + 0xfff + (rebased >>> 13 & 1) >>> 13);
  }

  /**
   * The nearest bfloat16, ties to even. NaN stays NaN; what is beyond the range becomes infinite.
   *
   * @param value any number
   * @return its bits
   */
  public static short toBf16(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) (bits >>> 16 | 0x40); // quiet: its set bits may all lie in the half that is dropped
    }
    return (short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16);
  }

  private static ByteBuffer allocate(int size, int width) {
    if (size > Integer.MAX_VALUE / width) {
      throw new IllegalArgumentException(size + " numbers are more than one message can hold");
    }
    return ByteBuffer.allocate(size * width).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static Tensor tensor(Dtype dtype, ByteBuffer data, int size, int rows) {
    if (rows < 1 || size < 1 || size % rows != 0) {
      throw new IllegalArgumentException(size + " numbers are not " + rows + " rows");
    }
    ByteString bytes = UnsafeByteOperations.unsafeWrap(data); // ours alone, but for wrap, which says so
    return Tensor.newBuilder().setDtype(dtype).setRows(rows).setVocabSize(size / rows).setData(bytes).build();
  }
}
