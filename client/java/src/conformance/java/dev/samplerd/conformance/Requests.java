package dev.samplerd.conformance;

import static dev.samplerd.conformance.Draws.ints;
import static dev.samplerd.conformance.MismatchException.expect;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import dev.samplerd.client.SamplerClient;
import dev.samplerd.client.SamplerdException;
import dev.samplerd.client.Samples;
import dev.samplerd.client.Tensors;
import dev.samplerd.v1.Guidance;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SamplingParams;
import dev.samplerd.v1.Tensor;
import dev.samplerd.v1.VerifyDraftRequest;
import dev.samplerd.v1.VerifyDraftResponse;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** What is built from numbers and names: parameters, guidance, drafts. */
final class Requests {
  private final Flags flags;
  private final JsonObject vectors;

  Requests(Flags flags, JsonObject vectors) {
    this.flags = flags;
    this.vectors = vectors;
  }

  private SamplerClient connect() {
    return SamplerClient.connect(flags.get("--target"));
  }

  String parameters() throws InvalidProtocolBufferException {
    JsonObject all = vectors.getAsJsonObject("parameters");
    JsonArray tables = all.getAsJsonArray("tables");
    List<String> failed = new ArrayList<>();
    try (SamplerClient client = connect()) {
      for (JsonElement each : all.getAsJsonArray("cases")) {
        JsonObject one = each.getAsJsonObject();
        SamplingParams.Builder params = SamplingParams.newBuilder();
        JsonFormat.parser().merge(one.get("params").toString(), params);
        SampleRequest request =
            SampleRequest.newBuilder()
                .setTensor(rows(tables.get(one.get("table").getAsInt()).getAsJsonArray()))
                .setParams(params)
                .setSeed(all.get("seed").getAsLong())
                .setNumSamples(all.get("num_samples").getAsInt())
                .build();
        if (!isDrawn(client, request, ints(one.get("samples")))) {
          failed.add(one.get("name").getAsString());
        }
      }
    }
    expect(failed.isEmpty(), String.join("; ", failed));
    return all.getAsJsonArray("cases").size() + " sets of parameters";
  }

  private static boolean isDrawn(SamplerClient client, SampleRequest request, int[] due) {
    try {
      return Arrays.equals(Samples.flat(client.sample(request)), due);
    } catch (SamplerdException error) {
      return false;
    }
  }

  String guidance() {
    JsonArray all = vectors.getAsJsonArray("guidance");
    try (SamplerClient client = connect()) {
      for (JsonElement each : all) {
        JsonObject one = each.getAsJsonObject();
        SampleRequest request =
            SampleRequest.newBuilder()
                .setTensor(rows(one.getAsJsonArray("rows")))
                .setGuidance(Guidance.newBuilder().setTensor(rows(one.getAsJsonArray("guidance"))))
                .setParams(
                    SamplingParams.newBuilder()
                        .setGuidanceScale(one.get("guidance_scale").getAsDouble())
                        .setTopK(one.get("top_k").getAsInt()))
                .setSeed(one.get("seed").getAsLong())
                .setNumSamples(one.get("num_samples").getAsInt())
                .build();
        int[] samples = Samples.flat(client.sample(request));
        String name = one.get("name").getAsString();
        expect(Arrays.equals(samples, ints(one.get("samples"))), name + ": drew " + Arrays.toString(samples));
      }
    }
    return all.size() + " pairs of rows";
  }

  String drafts() {
    JsonArray all = vectors.getAsJsonArray("drafts");
    try (SamplerClient client = connect()) {
      for (JsonElement each : all) {
        checkDraft(client, each.getAsJsonObject());
      }
    }
    return all.size() + " drafts";
  }

  private static void checkDraft(SamplerClient client, JsonObject one) {
    VerifyDraftRequest.Builder request = VerifyDraftRequest.newBuilder();
    one.getAsJsonArray("draft_ids").forEach(id -> request.addDraftIds(id.getAsInt()));
    one.getAsJsonArray("parents").forEach(parent -> request.addParents(parent.getAsInt()));
    if (!one.getAsJsonArray("draft").isEmpty()) {
      request.setDraft(rows(one.getAsJsonArray("draft")));
    }
    request.setTarget(rows(one.getAsJsonArray("target")));
    request.setParams(SamplingParams.newBuilder().setTemperature(one.get("temperature").getAsDouble()));
    VerifyDraftResponse reply = client.verifyDraft(request.setSeed(one.get("seed").getAsLong()).build());
    int[] samples = reply.getSamplesList().stream().mapToInt(Integer::intValue).toArray();
    int[] path = reply.getPathList().stream().mapToInt(Integer::intValue).toArray();
    boolean isDue =
        Arrays.equals(samples, ints(one.get("samples")))
            && Arrays.equals(path, ints(one.get("path")))
            && reply.getAccepted() == one.get("accepted").getAsInt();
    expect(isDue, one.get("name").getAsString() + ": " + Arrays.toString(samples) + " by " + Arrays.toString(path));
  }

  static Tensor rows(JsonArray rows) {
    int size = rows.get(0).getAsJsonArray().size();
    float[] values = new float[rows.size() * size];
    for (int row = 0; row < rows.size(); row++) {
      System.arraycopy(floats(rows.get(row)), 0, values, row * size, size);
    }
    return Tensors.f32(values, rows.size());
  }

  private static float[] floats(JsonElement array) {
    JsonArray values = array.getAsJsonArray();
    float[] numbers = new float[values.size()];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = values.get(i).getAsFloat();
    }
    return numbers;
  }
}
