package dev.samplerd.examples;

import dev.samplerd.client.SamplerClient;
import dev.samplerd.client.SamplerStream;
import dev.samplerd.client.Samples;
import dev.samplerd.client.Tensors;
import dev.samplerd.v1.LogprobKind;
import dev.samplerd.v1.Outputs;
import dev.samplerd.v1.Replacement;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SampleResponse;
import dev.samplerd.v1.SamplingParams;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;

/**
 * Draws slates: ranked lists without repetition, from a catalogue with scores.
 *
 * <p>A slate of three drawn without replacement from softmax(scores / temperature) is a Plackett-Luce ranking: good
 * titles come up often and first, and others still get their chance. A low temperature trusts the scores, a high one
 * explores. The probability of each slate comes with it, as learning from clicks later needs it.
 */
public final class Slates {
  private static final String[] TITLES = {
    "Dune", "Emma", "Ulysses", "Solaris", "Beloved", "Walden", "Candide", "Middlemarch"
  };
  private static final float[] SCORES = {2.1f, 1.4f, 0.3f, 1.9f, 1.2f, -0.5f, 0.8f, 1.0f};
  private static final int SLOTS = 3;
  private static final String[] READERS = {"ann", "ben", "cleo", "dan"};

  private Slates() {}

  /**
   * Draws and prints.
   *
   * @param arguments {@code --target HOST:PORT}; 127.0.0.1:50051 by default
   */
  public static void main(String[] arguments) {
    String target = arguments.length == 2 && arguments[0].equals("--target") ? arguments[1] : "127.0.0.1:50051";
    try (SamplerClient client = SamplerClient.connect(target)) {
      System.out.println("samplerd " + client.serverInfo().getVersion() + " at " + target);
      for (double temperature : new double[] {0, 0.5, 2}) {
        System.out.printf("%ntemperature %.1f%n", temperature);
        printSlates(client, temperature);
      }
      printExposure(client);
    }
  }

  private static SampleRequest.Builder slate(double temperature) {
    return SampleRequest.newBuilder()
        .setTensor(Tensors.f32(SCORES))
        .setParams(SamplingParams.newBuilder().setTemperature(temperature))
        .setReplacement(Replacement.REPLACEMENT_WITHOUT)
        .setNumSamples(SLOTS)
        .setOutputs(Outputs.newBuilder().addLogprobs(LogprobKind.LOGPROB_KIND_PROCESSED));
  }

  /** One slate for each reader, all in flight at once; a reader's seed makes the slate come out the same again. */
  private static void printSlates(SamplerClient client, double temperature) {
    Map<String, CompletableFuture<SampleResponse>> slates = new LinkedHashMap<>();
    try (SamplerStream<SampleRequest, SampleResponse> stream = client.stream()) {
      for (String reader : READERS) {
        slates.put(reader, stream.send(slate(temperature).setSeed(reader.hashCode()).build()));
      }
      slates.forEach((reader, reply) -> System.out.println(describe(reader, reply.join())));
    }
  }

  private static String describe(String reader, SampleResponse reply) {
    StringBuilder line = new StringBuilder(String.format("  %-5s", reader));
    for (int title : Samples.flat(reply)) {
      line.append(String.format(" %-12s", TITLES[title]));
    }
    double logprob = 0;
    for (float each : Samples.logprobs(reply.getLogprobs(0))) {
      logprob += each; // each is conditional on the draws before it: the sum is the slate's
    }
    return line.append(String.format(" p = %.4f", Math.exp(logprob))).toString();
  }

  /** How often each title is first: 20,000 draws in one request. */
  private static void printExposure(SamplerClient client) {
    int draws = 20_000;
    int[] firsts = client.sample(SCORES, SamplingParams.newBuilder().setTemperature(1).build(), draws);
    int[] counts = new int[TITLES.length];
    for (int title : firsts) {
      counts[title]++;
    }
    System.out.printf("%nfirst in the slate, %,d draws at temperature 1%n", draws);
    for (int title = 0; title < TITLES.length; title++) {
      double share = (double) counts[title] / draws;
      System.out.printf("  %-12s %5.1f %% %s%n", TITLES[title], 100 * share, "#".repeat((int) (100 * share)));
    }
  }
}
