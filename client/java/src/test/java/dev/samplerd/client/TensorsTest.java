package dev.samplerd.client;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import dev.samplerd.v1.Dtype;
import dev.samplerd.v1.Tensor;
import java.nio.FloatBuffer;
import org.junit.Test;

/** Arrays become the bytes that the contract wants. */
public class TensorsTest {
  private static float fromF16(int bits) {
    int sign = (bits & 0x8000) == 0 ? 1 : -1;
    int exponent = bits >>> 10 & 0x1f;
    int mantissa = bits & 0x3ff;
    if (exponent == 0x1f) {
      return mantissa == 0 ? sign * Float.POSITIVE_INFINITY : Float.NaN;
    }
    double scaled = exponent == 0 ? mantissa * 0x1p-24 : (1024 + mantissa) * Math.pow(2, exponent - 25);
    return (float) (sign * scaled);
  }

  /** Every binary16 is itself, and the tie between it and the next goes to the even one. */
  @Test
  public void everyF16AndEveryTie() {
    for (int bits = 0; bits < 0x7c00; bits++) {
      float value = fromF16(bits);
      float next = bits == 0x7bff ? 65536f : fromF16(bits + 1);
      float tie = (float) (((double) value + next) / 2);
      int even = (bits & 1) == 0 ? bits : bits + 1;
      assertEquals(bits, Tensors.toF16(value) & 0xffff);
      assertEquals(bits | 0x8000, Tensors.toF16(-value) & 0xffff);
      assertEquals(even, Tensors.toF16(tie) & 0xffff);
      assertEquals(bits, Tensors.toF16(Math.nextDown(tie)) & 0xffff);
      assertEquals(bits + 1, Tensors.toF16(Math.nextUp(tie)) & 0xffff);
    }
  }

  /** Infinity stays, overflow becomes infinite, NaN stays NaN whatever its bits. */
  @Test
  public void endsOfF16() {
    assertEquals(0x7c00, Tensors.toF16(Float.POSITIVE_INFINITY) & 0xffff);
    assertEquals(0xfc00, Tensors.toF16(-1e30f) & 0xffff);
    assertEquals(0x0000, Tensors.toF16(Float.MIN_VALUE) & 0xffff);
    for (int bits : new int[] {0x7f800001, 0x7fc00000, 0xff800001}) {
      assertEquals(true, Float.isNaN(fromF16(Tensors.toF16(Float.intBitsToFloat(bits)) & 0xffff)));
    }
  }

  /** The same for bfloat16. */
  @Test
  public void everyBf16AndEveryTie() {
    for (int bits = 0; bits < 0x7f80; bits++) {
      assertEquals(bits, Tensors.toBf16(Float.intBitsToFloat(bits << 16)) & 0xffff);
      assertEquals(bits | 0x8000, Tensors.toBf16(Float.intBitsToFloat(bits << 16 | 1 << 31)) & 0xffff);
      assertEquals(bits + (bits & 1), Tensors.toBf16(Float.intBitsToFloat(bits << 16 | 0x8000)) & 0xffff);
      assertEquals(bits, Tensors.toBf16(Float.intBitsToFloat(bits << 16 | 0x7fff)) & 0xffff);
      assertEquals(bits + 1, Tensors.toBf16(Float.intBitsToFloat(bits << 16 | 0x8001)) & 0xffff);
    }
    assertEquals(0x7f80, Tensors.toBf16(Float.MAX_VALUE) & 0xffff);
    assertEquals(0x7fc0, Tensors.toBf16(Float.intBitsToFloat(0x7f800001)) & 0xffff);
  }

  /** Little-endian, row-major, and cut into rows. */
  @Test
  public void bytesOfRows() {
    Tensor tensor = Tensors.f32(new float[] {1, -2, 0.5f, 0}, 2);
    assertEquals(Dtype.DTYPE_F32, tensor.getDtype());
    assertEquals(2, tensor.getRows());
    assertEquals(2, tensor.getVocabSize());
    byte[] due = {0, 0, (byte) 0x80, 0x3f, 0, 0, 0, (byte) 0xc0, 0, 0, 0, 0x3f, 0, 0, 0, 0};
    assertArrayEquals(due, tensor.getData().toByteArray());
    assertArrayEquals(new byte[] {0, 0x3c, 0, (byte) 0xc0}, Tensors.f16(new float[] {1, -2}, 1).getData().toByteArray());
    assertEquals(16, Tensors.f64(new double[] {1, 2}, 1).getData().size());
  }

  /** A buffer gives what is left of it, and stays where it is; the tensor is a copy. */
  @Test
  public void buffers() {
    FloatBuffer buffer = FloatBuffer.wrap(new float[] {9, 1, 2}).position(1);
    Tensor tensor = Tensors.f32(buffer, 1);
    buffer.put(1, 5);
    assertEquals(1, buffer.position());
    assertEquals(Tensors.f32(new float[] {1, 2}), tensor);
  }

  /** What cannot be rows is refused. */
  @Test
  public void noRows() {
    assertThrows(IllegalArgumentException.class, () -> Tensors.f32(new float[3], 2));
    assertThrows(IllegalArgumentException.class, () -> Tensors.f32(new float[0]));
    assertThrows(IllegalArgumentException.class, () -> Tensors.f16(new float[2], 0));
  }

  /** What is 16 bits wide already is sent as it is. */
  @Test
  public void bits() {
    short[] bits = {0x3c00, 0, 0x7bff, 1};
    byte[] bytes = {0, 0x3c, 0, 0, (byte) 0xff, 0x7b, 1, 0};
    assertEquals(com.google.protobuf.ByteString.copyFrom(bytes), Tensors.f16Bits(bits, 2).getData());
    assertEquals(dev.samplerd.v1.Dtype.DTYPE_BF16, Tensors.bf16Bits(bits, 2).getDtype());
    java.nio.ByteBuffer buffer = java.nio.ByteBuffer.wrap(bytes);
    dev.samplerd.v1.Tensor wrapped = Tensors.wrap(dev.samplerd.v1.Dtype.DTYPE_F16, buffer, 2);
    bytes[0] = 5;
    assertEquals(5, wrapped.getData().byteAt(0)); // not copied
    assertEquals(2, wrapped.getVocabSize());
  }
}
