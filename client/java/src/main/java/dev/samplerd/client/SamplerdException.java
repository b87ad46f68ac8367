package dev.samplerd.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * A call, or a request on a stream, that failed.
 *
 * <p>What to look at is {@link #code}: INVALID_ARGUMENT (see {@link #violations}), RESOURCE_EXHAUSTED (the server is
 * overloaded, see {@link #retryDelay}), DEADLINE_EXCEEDED, CANCELLED, UNAVAILABLE, UNAUTHENTICATED, NOT_FOUND,
 * ALREADY_EXISTS, UNIMPLEMENTED, ...
 */
public final class SamplerdException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final Status.Code code;
  private final transient List<Violation> violations;
  private final Duration retryDelay;

  /**
   * A field of the request that the server rejects.
   *
   * @param field its name as in sampler.proto, such as {@code params.top_p} or {@code row[3]}
   * @param description why, for people
   */
  public record Violation(String field, String description) {}

  private SamplerdException(Status status, List<Any> details, Throwable cause) {
    super(status.getCode() + (status.getDescription() == null ? "" : ": " + status.getDescription()), cause);
    code = status.getCode();
    List<Violation> fields = new ArrayList<>();
    Duration delay = null;
    for (Any detail : details) {
      try {
        if (detail.is(BadRequest.class)) {
          for (BadRequest.FieldViolation each : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            fields.add(new Violation(each.getField(), each.getDescription()));
          }
        } else if (detail.is(RetryInfo.class)) {
          com.google.protobuf.Duration told = detail.unpack(RetryInfo.class).getRetryDelay();
          delay = Duration.ofSeconds(told.getSeconds(), told.getNanos());
        }
      } catch (InvalidProtocolBufferException error) {
        addSuppressed(error); // the status counts, whatever its details are
      }
    }
    violations = List.copyOf(fields);
    retryDelay = delay;
  }

  /** Translates what gRPC raises or reports; anything else becomes UNKNOWN. */
  static SamplerdException of(Throwable cause) {
    if (cause instanceof SamplerdException known) {
      return known;
    }
    Status status = Status.fromThrowable(cause);
    Metadata trailers = Status.trailersFromThrowable(cause);
    com.google.rpc.Status told = null;
    if (trailers != null) {
      try {
        told = StatusProto.fromStatusAndTrailers(status, trailers);
      } catch (IllegalArgumentException error) {
        told = null; // the details belong to another status: not to be trusted
      }
    }
    return new SamplerdException(status, told == null ? List.of() : told.getDetailsList(), cause);
  }

  /** Translates the error of one request on a stream. */
  static SamplerdException of(com.google.rpc.Status error) {
    Status status = Status.fromCodeValue(error.getCode()).withDescription(error.getMessage());
    return new SamplerdException(status, error.getDetailsList(), null);
  }

  static SamplerdException cancelled(Throwable cause) {
    Status status = Status.CANCELLED.withDescription("cancelled by the caller").withCause(cause);
    return of(new StatusRuntimeException(status));
  }

  /**
   * The status of the call.
   *
   * @return never OK
   */
  public Status.Code code() {
    return code;
  }

  /**
   * The fields that the server names.
   *
   * @return in the server's order; empty where it names none
   */
  public List<Violation> violations() {
    return violations == null ? List.of() : violations; // null after deserialization
  }

  /**
   * When the server would like to be asked again.
   *
   * @return counted from the failure; empty where it does not say
   */
  public Optional<Duration> retryDelay() {
    return Optional.ofNullable(retryDelay);
  }

  /**
   * Whether the same request may succeed later.
   *
   * @return true for RESOURCE_EXHAUSTED and UNAVAILABLE
   */
  public boolean isRetryable() {
    return code == Status.Code.RESOURCE_EXHAUSTED || code == Status.Code.UNAVAILABLE;
  }
}
