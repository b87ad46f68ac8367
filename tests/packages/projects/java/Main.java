import dev.samplerd.client.SamplerClient;
import dev.samplerd.client.Tensors;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SamplingParams;

/** Draws five numbers and prints them. */
final class Main {
  private Main() {}

  public static void main(String[] arguments) throws Exception {
    try (SamplerClient client = SamplerClient.connect(arguments[0])) {
      SampleRequest request =
          SampleRequest.newBuilder()
              .setTensor(Tensors.f32(new float[] {1.0f, 2.0f, 0.5f, 1.5f}, 1))
              .setParams(SamplingParams.newBuilder().setTemperature(0.7))
              .setNumSamples(5)
              .setSeed(1234)
              .build();
      System.out.println(client.sample(request).getSamplesList());
    }
  }
}
