package dev.samplerd.client;

import com.google.protobuf.ByteString;
import dev.samplerd.v1.Logprobs;
import dev.samplerd.v1.SampleResponse;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;

/** Reads replies: ids as arrays, and parts of a large draw as one whole. */
public final class Samples {
  private Samples() {}

  /**
   * The drawn ids, whether they came as numbers or, with {@code raw_samples}, as bytes.
   *
   * @param reply of Sample, or of a stream
   * @return int[rows x S], row-major; -1 throughout a failed row
   */
  public static int[] flat(SampleResponse reply) {
    if (reply.getRawSamples().isEmpty()) {
      int[] ids = new int[reply.getSamplesCount()];
      for (int i = 0; i < ids.length; i++) {
        ids[i] = reply.getSamples(i);
      }
      return ids;
    }
    IntBuffer raw = littleEndian(reply.getRawSamples()).asIntBuffer();
    int[] ids = new int[raw.remaining()];
    raw.get(ids);
    return ids;
  }

  /**
   * The drawn ids, row by row.
   *
   * @param reply of Sample, or of a stream
   * @param rows how many rows were sent; at least 1
   * @return int[rows][S]; -1 throughout a failed row
   */
  public static int[][] rows(SampleResponse reply, int rows) {
    int[] ids = flat(reply);
    if (rows < 1 || ids.length % rows != 0) {
      throw new IllegalArgumentException(ids.length + " samples are not of " + rows + " rows");
    }
    int size = ids.length / rows;
    int[][] table = new int[rows][size];
    for (int row = 0; row < rows; row++) {
      System.arraycopy(ids, row * size, table[row], 0, size);
    }
    return table;
  }

  /**
   * The log-probabilities of the drawn ids, whether they came as numbers or as bytes.
   *
   * @param logprobs of one kind
   * @return float[rows x S], row-major; NaN throughout a failed row
   */
  public static float[] logprobs(Logprobs logprobs) {
    if (logprobs.getRawSamples().isEmpty()) {
      float[] values = new float[logprobs.getSamplesCount()];
      for (int i = 0; i < values.length; i++) {
        values[i] = logprobs.getSamples(i);
      }
      return values;
    }
    FloatBuffer raw = littleEndian(logprobs.getRawSamples()).asFloatBuffer();
    float[] values = new float[raw.remaining()];
    raw.get(values);
    return values;
  }

  /** Adds the next chunk of a reply: what is per sample goes on, what is per row came with chunk 0. */
  static void append(SampleResponse.Builder whole, SampleResponse next) {
    whole.addAllSamples(next.getSamplesList());
    whole.setRawSamples(whole.getRawSamples().concat(next.getRawSamples()));
    whole.addAllRanks(next.getRanksList());
    whole.addAllAdaptiveWeightedSum(next.getAdaptiveWeightedSumList());
    whole.addAllAdaptiveTotalWeight(next.getAdaptiveTotalWeightList());
    for (int kind = 0; kind < next.getLogprobsCount(); kind++) {
      Logprobs more = next.getLogprobs(kind);
      if (kind == whole.getLogprobsCount()) {
        whole.addLogprobs(more);
        continue;
      }
      Logprobs.Builder all = whole.getLogprobsBuilder(kind);
      all.addAllSamples(more.getSamplesList());
      all.setRawSamples(all.getRawSamples().concat(more.getRawSamples()));
    }
    whole.setFinal(next.getFinal());
  }

  private static ByteBuffer littleEndian(ByteString bytes) {
    return bytes.asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
  }
}
