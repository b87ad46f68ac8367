package dev.samplerd.conformance;

import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/** What the runner is started with. */
record Flags(Map<String, String> values) {
  private static final Set<String> KNOWN =
      Set.of("--target", "--vectors", "--retry-target", "--servers", "--unix-target", "--tls-target", "--ca", "--token");

  static Flags parse(String[] arguments) {
    Map<String, String> values = new HashMap<>();
    for (int i = 0; i < arguments.length; i += 2) {
      if (!KNOWN.contains(arguments[i]) || i + 1 == arguments.length) {
        throw new IllegalArgumentException("expected " + KNOWN + ", each with a value; got " + arguments[i]);
      }
      values.put(arguments[i], arguments[i + 1]);
    }
    return new Flags(values);
  }

  String get(String name) {
    String value = values.get(name);
    if (value == null) {
      throw new MismatchException(name + " was not given");
    }
    return value;
  }
}
