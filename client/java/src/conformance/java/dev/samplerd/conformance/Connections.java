package dev.samplerd.conformance;

import static dev.samplerd.conformance.MismatchException.expect;

import com.google.gson.JsonObject;
import dev.samplerd.client.SamplerClient;
import dev.samplerd.client.SamplerClientBuilder;
import dev.samplerd.client.SamplerdException;
import dev.samplerd.client.Samples;
import dev.samplerd.client.Tensors;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SampleResponse;
import dev.samplerd.v1.Values;
import io.grpc.Status.Code;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.Set;
import java.util.concurrent.CompletableFuture;

/** How calls are made: limits, deadline, cancel, retry, metadata, tls, token. */
final class Connections {
  private static final int LARGE_ROW = 3_000_000;
  private static final int LARGE_DRAW = 2_000_000;

  private final Flags flags;
  private final JsonObject vectors;

  Connections(Flags flags, JsonObject vectors) {
    this.flags = flags;
    this.vectors = vectors;
  }

  private SamplerClient connect() {
    return SamplerClient.connect(flags.get("--target"));
  }

  String limits() {
    try (SamplerClient client = connect()) {
      long most = client.serverInfo().getLimits().getMaxMessageBytes();
      expect(most > 0, "max_message_bytes is not told");
      client.sample(SampleRequest.newBuilder().setTensor(Tensors.f32(new float[LARGE_ROW])).build());
      Values.Row row = Values.Row.newBuilder().addValues(0).addValues(0).build();
      SampleResponse reply =
          client.sample(
              SampleRequest.newBuilder()
                  .setValues(Values.newBuilder().addRow(row))
                  .setNumSamples(LARGE_DRAW)
                  .build());
      expect(reply.getSamplesCount() == LARGE_DRAW, reply.getSamplesCount() + " samples");
      return "max_message_bytes " + most;
    }
  }

  private SampleRequest slow() {
    JsonObject slow = vectors.getAsJsonObject("slow");
    float[] row = new float[slow.get("vocab_size").getAsInt()];
    for (int i = 0; i < row.length; i++) {
      row[i] = i % slow.get("modulus").getAsInt();
    }
    return SampleRequest.newBuilder()
        .setTensor(Tensors.f32(row))
        .setNumSamples(slow.get("num_samples").getAsInt())
        .build();
  }

  String deadline() {
    SampleRequest slow = slow();
    try (SamplerClient client = connect()) {
      client.serverInfo(); // connected, so that the 50 ms are the server's
      return fails(
          () -> client.withTimeout(Duration.ofMillis(50)).sample(slow),
          EnumSet.of(Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED));
    }
  }

  String cancel() throws Exception {
    SampleRequest slow = slow();
    try (SamplerClient client = connect()) {
      client.serverInfo();
      CompletableFuture<SampleResponse> future = client.sampleAsync(slow);
      Thread.sleep(100);
      expect(!future.isDone(), "it was over before it could be cancelled");
      future.cancel(true);
      expect(future.isCancelled(), "it was not cancelled");
      Thread caller = new Thread(() -> fails(() -> client.sample(slow), EnumSet.of(Code.CANCELLED)));
      caller.start();
      Thread.sleep(100);
      expect(caller.isAlive(), "it was over before it could be interrupted");
      caller.interrupt();
      caller.join(1000);
      expect(!caller.isAlive(), "the interrupted caller still waits");
      return "CANCELLED";
    }
  }

  String retry() {
    try (SamplerClient client = SamplerClient.connect(flags.get("--retry-target"))) {
      for (int id : new int[] {1, 4}) {
        int[] samples = Samples.flat(client.sample(refused(id)));
        expect(Arrays.equals(samples, new int[] {7}), "answered with " + Arrays.toString(samples));
      }
      fails(() -> client.sample(refused(2)), EnumSet.of(Code.RESOURCE_EXHAUSTED));
      fails(() -> client.sample(refused(3)), EnumSet.of(Code.INVALID_ARGUMENT));
    }
    return "tried again twice";
  }

  String metadata() {
    SamplerClientBuilder builder = SamplerClient.builder(flags.get("--retry-target"));
    try (SamplerClient client = builder.metadata("x-tenant", "conformance").build()) {
      int[] samples = Samples.flat(client.sample(SampleRequest.newBuilder().setDistribution("prior").build()));
      expect(Arrays.equals(samples, new int[] {7}), "answered with " + Arrays.toString(samples));
    }
    return "and the distribution's name";
  }

  private static SampleRequest refused(int id) {
    return SampleRequest.newBuilder().setId(id).setTensor(Tensors.f32(new float[1])).build();
  }

  private SampleResponse overTls(Path ca, String token) throws Exception {
    SamplerClientBuilder builder = SamplerClient.builder(flags.get("--tls-target")).token(token);
    builder.timeout(Duration.ofSeconds(5));
    JsonObject call = vectors.getAsJsonArray("calls").get(0).getAsJsonObject();
    try (SamplerClient client = (ca == null ? builder.tls() : builder.tls(ca)).build()) {
      return client.sample(SampleRequest.parseFrom(Draws.bytes(call, "request")));
    }
  }

  String tls() throws Exception {
    SampleResponse reply = overTls(Path.of(flags.get("--ca")), flags.get("--token"));
    JsonObject call = vectors.getAsJsonArray("calls").get(0).getAsJsonObject();
    new Replies(vectors.get("tolerance").getAsDouble())
        .check(call.get("name").getAsString(), reply, call.getAsJsonObject("reply"));
    String code =
        fails(
            () -> overTls(null, flags.get("--token")),
            EnumSet.of(Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED));
    return "and " + code + " without the CA";
  }

  String token() {
    Path ca = Path.of(flags.get("--ca"));
    fails(() -> overTls(ca, "wrong"), EnumSet.of(Code.UNAUTHENTICATED));
    return fails(() -> overTls(ca, null), EnumSet.of(Code.UNAUTHENTICATED));
  }

  /** A call that is to fail. */
  private interface Failing {
    Object make() throws Exception;
  }

  private static String fails(Failing call, Set<Code> codes) {
    try {
      call.make();
    } catch (SamplerdException error) {
      expect(codes.contains(error.code()), error.getMessage() + ", not " + codes);
      return error.code().name();
    } catch (Exception error) {
      throw new MismatchException(error.toString());
    }
    throw new MismatchException("it was answered, where " + codes + " was due");
  }
}
