package dev.samplerd.conformance;

import static dev.samplerd.conformance.MismatchException.expect;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import dev.samplerd.client.SampleChunk;
import dev.samplerd.client.SampleChunks;
import dev.samplerd.client.SamplerClient;
import dev.samplerd.client.SamplerdException;
import dev.samplerd.client.Samples;
import dev.samplerd.v1.CreateDistributionRequest;
import dev.samplerd.v1.Outputs;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SamplingParams;
import io.grpc.Status.Code;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;

/** Large draws, chunk by chunk: chunks. */
final class Chunks {
  private static final int ENDLESS = 2_000_000_000;

  private final Flags flags;
  private final JsonObject own;

  Chunks(Flags flags, JsonObject vectors) {
    this.flags = flags;
    own = vectors.getAsJsonObject("chunks");
  }

  String chunks() {
    JsonArray cases = own.getAsJsonArray("cases");
    try (SamplerClient client = SamplerClient.connect(flags.get("--target"))) {
      CreateDistributionRequest.Builder create = CreateDistributionRequest.newBuilder();
      create.setTensor(Requests.rows(own.getAsJsonArray("rows")));
      String name = client.createDistribution(create.build()).getName();
      for (JsonElement each : cases) {
        draw(client, name, each.getAsJsonObject());
      }
      SamplingParams wrong = SamplingParams.newBuilder().setTemperature(-1).build();
      SamplerdException refused = failure(client, from(name).setParams(wrong), 0, Code.INVALID_ARGUMENT);
      List<String> fields = refused.violations().stream().map(SamplerdException.Violation::field).toList();
      expect(fields.equals(List.of("params.temperature")), "a refusal names " + fields);
      failure(client, from("there.is.none"), 0, Code.NOT_FOUND);
      stopEarly(client, name);
      client.deleteDistribution(name);
    }
    try (SamplerClient client = SamplerClient.connect(flags.get("--retry-target"))) {
      refuse(client);
    }
    return cases.size() + " draws";
  }

  private static SampleRequest.Builder from(String name) {
    return SampleRequest.newBuilder().setDistribution(name);
  }

  private static void draw(SamplerClient client, String name, JsonObject one) {
    long seed = one.get("seed").getAsLong();
    SampleRequest request =
        from(name)
            .setSeed(seed)
            .setDrawOffset(one.get("draw_offset").getAsLong())
            .setParams(SamplingParams.newBuilder().setTemperature(one.get("temperature").getAsDouble()))
            .setNumSamples(one.get("num_samples").getAsInt())
            .setOutputs(Outputs.newBuilder().setRawSamples(one.get("draw_offset").getAsLong() > 0))
            .build();
    int[] due = Draws.ints(one.get("samples"));
    int[] ids = new int[due.length];
    int got = 0;
    int number = 0;
    boolean isFinal = false;
    try (SampleChunks chunks = client.drawChunks(request)) {
      for (SampleChunk chunk : chunks) {
        boolean isNext = !isFinal && chunk.reply().getChunk() == number && chunk.offset() == got;
        expect(isNext, "chunk " + number + " is number " + chunk.reply().getChunk() + " at " + chunk.offset());
        expect(chunk.reply().getSeed() == seed, "another seed");
        expect(got + chunk.samples().length <= ids.length, "too many samples");
        System.arraycopy(chunk.samples(), 0, ids, got, chunk.samples().length);
        got += chunk.samples().length;
        number++;
        isFinal = chunk.reply().getFinal();
      }
    }
    expect(number > 1 && isFinal && got == due.length, got + " samples in " + number + " chunks");
    expect(Arrays.equals(ids, due), one.get("name").getAsString() + ": drew " + Arrays.toString(ids));
  }

  /** Meets a server that is busy before the first chunk, and one that is not there after it. */
  private static void refuse(SamplerClient client) {
    expect(count(client, from("busy")) == 2, "a server that was busy gave other chunks");
    failure(client, from("broken"), 1, Code.UNAVAILABLE);
    failure(client, from("cut"), 1, Code.UNAVAILABLE);
    SamplerClient patient = client.withTimeout(Duration.ofSeconds(2)); // the draw takes longer in all
    expect(count(patient, from("slow")) == 5, "a slow draw gave other chunks");
    failure(client.withTimeout(Duration.ofMillis(300)), from("silent"), 1, Code.DEADLINE_EXCEEDED);
    stopEarly(client, "endless");
    int[] samples = Samples.flat(client.sample(from("left").build())); // answered once no draw is in flight
    expect(Arrays.equals(samples, new int[] {7}), "answered with " + Arrays.toString(samples));
  }

  private static int count(SamplerClient client, SampleRequest.Builder request) {
    int number = 0;
    try (SampleChunks chunks = client.drawChunks(request.build())) {
      while (chunks.hasNext()) {
        expect(chunks.next().reply().getChunk() == number++, "chunks out of order");
      }
    }
    return number;
  }

  /** How a draw fails, after so many chunks. */
  private static SamplerdException failure(SamplerClient client, SampleRequest.Builder request, int chunks, Code code) {
    int number = 0;
    try (SampleChunks all = client.drawChunks(request.build())) {
      while (all.hasNext()) {
        all.next();
        number++;
      }
    } catch (SamplerdException error) {
      expect(error.code() == code, error.getMessage() + ", not " + code);
      expect(number == chunks, "failed after " + number + " chunks, not " + chunks);
      return error;
    }
    throw new MismatchException("it was answered, where " + code + " was due");
  }

  private static void stopEarly(SamplerClient client, String name) {
    try (SampleChunks chunks = client.drawChunks(from(name).setNumSamples(ENDLESS).build())) {
      for (int number = 0; number < 2; number++) {
        expect(chunks.next().reply().getChunk() == number, "chunks out of order");
      }
    }
  }
}
