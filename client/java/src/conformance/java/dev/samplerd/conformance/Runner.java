package dev.samplerd.conformance;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/** Tries the features one after the other, and prints a line for each. */
public final class Runner {
  /** One feature; returns what is worth saying of it. */
  private interface Feature {
    String run() throws Exception;
  }

  private Runner() {}

  /**
   * Runs the suite.
   *
   * @param arguments flags, as in client/conformance/README.md
   * @throws Exception if the vectors cannot be read
   */
  public static void main(String[] arguments) throws Exception {
    Flags flags = Flags.parse(arguments);
    JsonObject vectors = JsonParser.parseString(Files.readString(Path.of(flags.get("--vectors")))).getAsJsonObject();
    Draws draws = new Draws(flags, vectors);
    Requests requests = new Requests(flags, vectors);
    Chunks chunks = new Chunks(flags, vectors);
    Connections connections = new Connections(flags, vectors);
    Servers servers = new Servers(flags, vectors);
    Map<String, Feature> features = new LinkedHashMap<>();
    features.put("calls", draws::calls);
    features.put("parameters", requests::parameters);
    features.put("arrays", draws::arrays);
    features.put("halves", draws::halves);
    features.put("guidance", requests::guidance);
    features.put("drafts", requests::drafts);
    features.put("frequencies", draws::frequencies);
    features.put("stream", draws::stream);
    features.put("chunks", chunks::chunks);
    features.put("limits", connections::limits);
    features.put("deadline", connections::deadline);
    features.put("cancel", connections::cancel);
    features.put("retry", connections::retry);
    features.put("budget", servers::budget);
    features.put("metadata", connections::metadata);
    features.put("servers", servers::servers);
    features.put("connections", servers::connections);
    features.put("unix", servers::unix);
    features.put("tls", connections::tls);
    features.put("token", connections::token);
    int failed = 0;
    for (Map.Entry<String, Feature> feature : features.entrySet()) {
      failed += hasPassed(feature.getKey(), feature.getValue()) ? 0 : 1;
    }
    System.exit(failed == 0 ? 0 : 1);
  }

  private static boolean hasPassed(String name, Feature feature) {
    try {
      System.out.println(name + "\tpass\t" + feature.run());
      return true;
    } catch (UnsupportedOperationException error) {
      System.out.println(name + "\tunsupported\t" + error.getMessage());
      return true;
    } catch (Exception error) { // whatever it is, the other features are tried
      System.err.println(name + ": " + error);
      boolean isTold = error instanceof MismatchException;
      String detail = isTold ? error.getMessage().replaceAll("\\s+", " ") : error.getClass().getSimpleName();
      System.out.println(name + "\tfail\t" + detail);
      return false;
    }
  }
}
