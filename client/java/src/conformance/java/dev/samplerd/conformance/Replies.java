package dev.samplerd.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Base64;
import java.util.HashSet;
import java.util.Set;

/** Compares replies: floats within a tolerance, all else exactly. */
final class Replies {
  /** What is the server's own: where the time went, and texts for people. */
  private static final Set<String> IGNORED = Set.of("timing", "message");

  private static final JsonFormat.Printer PRINTER =
      JsonFormat.printer().preservingProtoFieldNames().printingEnumsAsInts().omittingInsignificantWhitespace();

  private final double tolerance;

  Replies(double tolerance) {
    this.tolerance = tolerance;
  }

  /** Fails unless the reply is the one that was due. */
  void check(String name, MessageOrBuilder reply, JsonObject want) throws InvalidProtocolBufferException {
    String printed = PRINTER.print(reply);
    if (!isSame(JsonParser.parseString(printed), want)) {
      throw new MismatchException(name + ": got " + printed + ", not " + want);
    }
  }

  private boolean isSame(JsonElement got, JsonElement want) {
    if (want instanceof JsonObject object) {
      return got instanceof JsonObject other && isSameObject(other, object);
    }
    if (want instanceof JsonArray array) {
      return got instanceof JsonArray other && isSameArray(other, array);
    }
    if (isFloat(want) && got instanceof JsonPrimitive number && number.isNumber()) {
      return Math.abs(got.getAsDouble() - want.getAsDouble()) <= tolerance;
    }
    return got.equals(want);
  }

  private boolean isSameObject(JsonObject got, JsonObject want) {
    Set<String> names = new HashSet<>(got.keySet());
    names.addAll(want.keySet());
    names.removeAll(IGNORED);
    return names.stream().allMatch(name -> got.has(name) && want.has(name) && isSameField(name, got, want));
  }

  private boolean isSameField(String name, JsonObject got, JsonObject want) {
    if (!name.equals("raw_samples") || !want.has("kind")) {
      return isSame(got.get(name), want.get(name));
    }
    ByteBuffer ours = bytes(got.get(name));
    ByteBuffer theirs = bytes(want.get(name));
    boolean isEqual = ours.remaining() == theirs.remaining();
    while (isEqual && theirs.hasRemaining()) {
      float one = ours.getFloat();
      float other = theirs.getFloat();
      isEqual = Float.compare(one, other) == 0 || Math.abs(one - other) <= tolerance;
    }
    return isEqual;
  }

  private boolean isSameArray(JsonArray got, JsonArray want) {
    boolean isEqual = got.size() == want.size();
    for (int i = 0; isEqual && i < want.size(); i++) {
      isEqual = isSame(got.get(i), want.get(i));
    }
    return isEqual;
  }

  private static boolean isFloat(JsonElement value) {
    boolean isNumber = value instanceof JsonPrimitive primitive && primitive.isNumber();
    return isNumber && value.getAsString().matches(".*[.eE].*");
  }

  private static ByteBuffer bytes(JsonElement base64) {
    return ByteBuffer.wrap(Base64.getDecoder().decode(base64.getAsString())).order(ByteOrder.LITTLE_ENDIAN);
  }
}
