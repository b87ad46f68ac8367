package dev.samplerd.conformance;

import static dev.samplerd.conformance.MismatchException.expect;

import com.google.gson.JsonObject;
import com.google.protobuf.InvalidProtocolBufferException;
import dev.samplerd.client.SamplerClient;
import dev.samplerd.client.SamplerdException;
import dev.samplerd.client.Samples;
import dev.samplerd.client.Tensors;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SampleResponse;
import io.grpc.Status.Code;
import java.util.Arrays;
import java.util.List;

/** Which servers are called, and how often: budget, servers, connections, unix. */
final class Servers {
  private final Flags flags;
  private final JsonObject vectors;

  Servers(Flags flags, JsonObject vectors) {
    this.flags = flags;
    this.vectors = vectors;
  }

  private static SampleResponse draw(SamplerClient client, String distribution) {
    return client.sample(SampleRequest.newBuilder().setDistribution(distribution).build());
  }

  private static void expectOutage(SamplerClient client) {
    try {
      draw(client, "outage");
    } catch (SamplerdException error) {
      expect(error.code() == Code.UNAVAILABLE, error.getMessage());
      return;
    }
    throw new MismatchException("answered in an outage");
  }

  /** Makes the first of the calls. */
  private void makeWorked(SamplerClient client) throws InvalidProtocolBufferException {
    JsonObject call = vectors.getAsJsonArray("calls").get(0).getAsJsonObject();
    SampleResponse reply = client.sample(SampleRequest.parseFrom(Draws.bytes(call, "request")));
    new Replies(vectors.get("tolerance").getAsDouble())
        .check(call.get("name").getAsString(), reply, call.getAsJsonObject("reply"));
  }

  String budget() {
    try (SamplerClient client = SamplerClient.connect(flags.get("--retry-target"))) {
      for (int i = 0; i < 40; i++) {
        expectOutage(client);
      }
      for (int i = 0; i < 11; i++) {
        draw(client, "steady");
      }
      expectOutage(client);
    }
    return "21 retries of 41 calls";
  }

  String servers() throws InterruptedException {
    List<String> targets = List.of(flags.get("--servers").split(","));
    SampleRequest request = SampleRequest.newBuilder().setTensor(Tensors.f32(new float[1])).build();
    try (SamplerClient client = SamplerClient.builder(targets).build()) {
      for (int i = 0; i < 200; i++) {
        int[] samples = Samples.flat(client.sample(request));
        expect(Arrays.equals(samples, new int[] {0}), "drew " + Arrays.toString(samples));
        Thread.sleep(10);
      }
    }
    return "200 draws";
  }

  String connections() throws InvalidProtocolBufferException {
    try (SamplerClient client = SamplerClient.builder(flags.get("--retry-target")).connections(4).build()) {
      for (int i = 0; i < 40; i++) {
        draw(client, "connections");
      }
    }
    try (SamplerClient client = SamplerClient.builder(flags.get("--target")).connections(4).build()) {
      for (int i = 0; i < 8; i++) {
        makeWorked(client);
      }
    }
    return "4 connections";
  }

  String unix() throws InvalidProtocolBufferException {
    SamplerClient client;
    try {
      client = SamplerClient.builder(flags.get("--unix-target")).token("unasked").build();
    } catch (RuntimeException error) { // gRPC finds no transport that can
      throw new UnsupportedOperationException(
          "gRPC takes Unix sockets through netty's native epoll transport, which Debian's grpc-java 1.41 and netty are built"
              + " without",
          error);
    }
    try (client) {
      makeWorked(client);
    }
    return "and a token in plain text";
  }
}
