package dev.samplerd.conformance;

/** Something is not as the suite says. */
final class MismatchException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  MismatchException(String text) {
    super(text);
  }

  static void expect(boolean condition, String text) {
    if (!condition) {
      throw new MismatchException(text);
    }
  }
}
