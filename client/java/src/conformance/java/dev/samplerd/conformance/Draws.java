package dev.samplerd.conformance;

import static dev.samplerd.conformance.MismatchException.expect;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.GeneratedMessageV3;
import com.google.protobuf.InvalidProtocolBufferException;
import dev.samplerd.client.SamplerClient;
import dev.samplerd.client.SamplerStream;
import dev.samplerd.client.SamplerdException;
import dev.samplerd.client.Samples;
import dev.samplerd.client.Tensors;
import dev.samplerd.v1.CreateDistributionRequest;
import dev.samplerd.v1.DeleteDistributionRequest;
import dev.samplerd.v1.Dtype;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SampleResponse;
import dev.samplerd.v1.SamplingParams;
import dev.samplerd.v1.Tensor;
import dev.samplerd.v1.VerifyDraftRequest;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;

/** What is drawn: calls, arrays, frequencies, stream. */
final class Draws {
  private static final int MAX_IN_FLIGHT = 1000;
  private static final int FIRST_ID = 1000;

  private final Flags flags;
  private final JsonObject vectors;
  private final Replies replies;

  Draws(Flags flags, JsonObject vectors) {
    this.flags = flags;
    this.vectors = vectors;
    replies = new Replies(vectors.get("tolerance").getAsDouble());
  }

  private SamplerClient connect() {
    return SamplerClient.connect(flags.get("--target"));
  }

  String calls() throws Exception {
    JsonArray calls = vectors.getAsJsonArray("calls");
    try (SamplerClient client = connect()) {
      for (JsonElement call : calls) {
        checkCall(client, call.getAsJsonObject());
      }
    }
    return calls.size() + " calls";
  }

  private void checkCall(SamplerClient client, JsonObject call) throws InvalidProtocolBufferException {
    String name = call.get("name").getAsString();
    GeneratedMessageV3 reply;
    try {
      reply = make(client, call);
    } catch (SamplerdException error) {
      expect(call.has("error"), name + ": " + error.getMessage());
      JsonObject want = call.getAsJsonObject("error");
      expect(error.code().value() == want.get("code").getAsInt(), name + ": " + error.getMessage());
      List<String> due = new ArrayList<>();
      want.getAsJsonArray("fields").forEach(field -> due.add(field.getAsString()));
      List<String> named = error.violations().stream().map(SamplerdException.Violation::field).toList();
      expect(due.isEmpty() || due.equals(named), name + ": names " + named + ", not " + due);
      return;
    }
    expect(call.has("reply"), name + ": succeeded, where " + call.get("error") + " was due");
    if (reply != null) {
      replies.check(name, reply, call.getAsJsonObject("reply"));
    }
  }

  /** Makes a call; null where the reply is not compared. */
  private static GeneratedMessageV3 make(SamplerClient client, JsonObject call)
      throws InvalidProtocolBufferException {
    byte[] request = bytes(call, "request");
    switch (call.get("rpc").getAsString()) {
      case "Sample":
        return client.sample(SampleRequest.parseFrom(request));
      case "VerifyDraft":
        return client.verifyDraft(VerifyDraftRequest.parseFrom(request));
      case "CreateDistribution":
        client.createDistribution(CreateDistributionRequest.parseFrom(request));
        return null;
      case "DeleteDistribution":
        client.deleteDistribution(DeleteDistributionRequest.parseFrom(request).getName());
        return null;
      default:
        throw new MismatchException("no such call: " + call.get("rpc"));
    }
  }

  String arrays() {
    JsonArray cases = vectors.getAsJsonArray("arrays");
    try (SamplerClient client = connect()) {
      for (JsonElement each : cases) {
        checkArray(client, each.getAsJsonObject());
      }
    }
    return cases.size() + " arrays";
  }

  String halves() {
    int tried = 0;
    try (SamplerClient client = connect()) {
      for (JsonElement each : vectors.getAsJsonArray("arrays")) {
        JsonObject array = each.getAsJsonObject();
        String dtype = array.get("dtype").getAsString();
        if (!dtype.equals("F32")) {
          tried++;
          int rows = array.getAsJsonArray("rows").size();
          ByteBuffer data = ByteBuffer.wrap(bytes(array, "data")).order(ByteOrder.LITTLE_ENDIAN);
          short[] bits = new short[data.remaining() / Short.BYTES];
          data.asShortBuffer().get(bits);
          boolean isF16 = dtype.equals("F16");
          checkSamples(client, array, isF16 ? Tensors.f16Bits(bits, rows) : Tensors.bf16Bits(bits, rows));
          checkSamples(client, array, Tensors.wrap(isF16 ? Dtype.DTYPE_F16 : Dtype.DTYPE_BF16, data, rows));
        }
      }
    }
    return tried + " arrays";
  }

  private static void checkArray(SamplerClient client, JsonObject array) {
    String name = array.get("name").getAsString();
    JsonArray rows = array.getAsJsonArray("rows");
    int size = rows.get(0).getAsJsonArray().size();
    float[] values = new float[rows.size() * size];
    for (int i = 0; i < values.length; i++) {
      values[i] = rows.get(i / size).getAsJsonArray().get(i % size).getAsFloat();
    }
    Tensor tensor =
        switch (array.get("dtype").getAsString()) {
          case "F32" -> Tensors.f32(values, rows.size());
          case "F16" -> Tensors.f16(values, rows.size());
          case "BF16" -> Tensors.bf16(values, rows.size());
          default -> throw new MismatchException(name + ": dtype " + array.get("dtype"));
        };
    expect(Arrays.equals(tensor.getData().toByteArray(), bytes(array, "data")), name + ": other bytes");
    checkSamples(client, array, tensor);
  }

  private static void checkSamples(SamplerClient client, JsonObject array, Tensor tensor) {
    SampleRequest request =
        SampleRequest.newBuilder()
            .setTensor(tensor)
            .setParams(SamplingParams.newBuilder().setTemperature(array.get("temperature").getAsDouble()))
            .setSeed(array.get("seed").getAsLong())
            .setNumSamples(array.get("num_samples").getAsInt())
            .build();
    int[] samples = Samples.flat(client.sample(request));
    expect(Arrays.equals(samples, ints(array.get("samples"))), array.get("name") + ": drew " + Arrays.toString(samples));
  }

  String frequencies() throws Exception {
    JsonArray cases = vectors.getAsJsonArray("frequencies");
    try (SamplerClient client = connect()) {
      for (JsonElement each : cases) {
        JsonObject law = each.getAsJsonObject();
        checkLaw(law, Samples.flat(client.sample(SampleRequest.parseFrom(bytes(law, "request")))));
      }
    }
    return cases.size() + " laws";
  }

  private static void checkLaw(JsonObject law, int[] samples) {
    String name = law.get("name").getAsString();
    JsonArray probabilities = law.getAsJsonArray("probabilities");
    int draws = law.get("draws").getAsInt();
    expect(samples.length == draws, name + ": " + samples.length + " draws");
    int[] counts = new int[probabilities.size()];
    for (int sample : samples) {
      counts[sample]++;
    }
    double statistic = 0;
    for (int i = 0; i < counts.length; i++) {
      double expected = probabilities.get(i).getAsDouble() * draws;
      expect(expected > 0 || counts[i] == 0, name + ": " + i + " is impossible, and was drawn");
      statistic += expected > 0 ? Math.pow(counts[i] - expected, 2) / expected : 0;
    }
    expect(statistic <= law.get("critical").getAsDouble(), name + ": " + statistic + " > " + law.get("critical"));
  }

  String stream() throws Exception {
    Map<JsonObject, CompletableFuture<SampleResponse>> asked = new LinkedHashMap<>();
    try (SamplerClient client = connect();
        SamplerStream<SampleRequest, SampleResponse> stream = client.stream(MAX_IN_FLIGHT)) {
      for (JsonElement each : vectors.getAsJsonArray("calls")) {
        JsonObject call = each.getAsJsonObject();
        if (!call.get("rpc").getAsString().equals("Sample") || !call.has("reply")) {
          continue;
        }
        SampleRequest request = SampleRequest.parseFrom(bytes(call, "request"));
        if (!request.hasDistribution()) {
          asked.put(call, stream.send(request.toBuilder().setId(FIRST_ID + asked.size()).build()));
        }
      }
      int id = FIRST_ID;
      for (Map.Entry<JsonObject, CompletableFuture<SampleResponse>> each : asked.entrySet()) {
        JsonObject want = each.getKey().getAsJsonObject("reply").deepCopy();
        want.addProperty("id", String.valueOf(id++));
        replies.check(each.getKey().get("name").getAsString(), each.getValue().get(), want);
      }
    }
    return asked.size() + " requests in flight";
  }

  static byte[] bytes(JsonObject object, String name) {
    return Base64.getDecoder().decode(object.get(name).getAsString());
  }

  static int[] ints(JsonElement array) {
    JsonArray values = array.getAsJsonArray();
    int[] numbers = new int[values.size()];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = values.get(i).getAsInt();
    }
    return numbers;
  }
}
