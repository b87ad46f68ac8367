# frozen_string_literal: true

module Samplerd
  # A call, or a request on a stream, that failed.
  #
  #   Error
  #   |- InvalidRequestError   INVALID_ARGUMENT: see violations
  #   |- OverloadedError       RESOURCE_EXHAUSTED: see retry_delay
  #   |- UnavailableError      UNAVAILABLE
  #   |- DeadlineError         DEADLINE_EXCEEDED
  #   |- CancelledError        CANCELLED
  #   |- UnauthenticatedError  UNAUTHENTICATED
  #   |- NotFoundError         NOT_FOUND
  #   `- AlreadyExistsError    ALREADY_EXISTS
  #
  # Any other status is an Error itself.
  class Error < StandardError
    # A field that the server rejects, named as in sampler.proto: "params.top_p", "row[3]".
    Violation = Struct.new(:field, :description)

    # The number of the google.rpc.Code; never 0.
    attr_reader :code
    # The fields that the server names, in its order.
    attr_reader :violations
    # Seconds after which the server would like to be asked again; nil where it does not say.
    attr_reader :retry_delay
    # The trailer grpc-retry-pushback-ms as it came, or nil.
    attr_reader :pushback

    def initialize(message, code:, details: [], pushback: nil)
      super(message)
      @code = code
      @pushback = pushback
      @violations = []
      @retry_delay = nil
      details.each { |detail| read(detail) }
    end

    # Whether the same request may succeed later.
    def retryable?
      [GRPC::Core::StatusCodes::RESOURCE_EXHAUSTED, GRPC::Core::StatusCodes::UNAVAILABLE].include?(code)
    end

    # What gRPC raises, as an Error.
    def self.from_grpc(cause)
      trailers = cause.metadata || {}
      status = decode(Array(trailers["grpc-status-details-bin"]).first)
      details = status && status.code == cause.code ? status.details : []
      pushback = Array(trailers["grpc-retry-pushback-ms"]).last
      of(cause.code).new(cause.details.to_s, code: cause.code, details: details, pushback: pushback)
    end

    # The error of one request on a stream (google.rpc.Status), as an Error.
    def self.from_status(status)
      of(status.code).new(status.message, code: status.code, details: status.details)
    end

    def self.of(code)
      BY_CODE.fetch(code, Error)
    end
    private_class_method :of

    def self.decode(bytes)
      bytes && Google::Rpc::Status.decode(bytes)
    rescue Google::Protobuf::ParseError
      nil # the status counts, whatever its details are
    end
    private_class_method :decode

    private

    def read(detail)
      if detail.is(Google::Rpc::BadRequest)
        fields = detail.unpack(Google::Rpc::BadRequest).field_violations
        @violations += fields.map { |each| Violation.new(each.field, each.description) }
      elsif detail.is(Google::Rpc::RetryInfo)
        delay = detail.unpack(Google::Rpc::RetryInfo).retry_delay
        @retry_delay = delay && (delay.seconds + (delay.nanos / 1e9))
      end
    rescue Google::Protobuf::ParseError
      nil # the status counts, whatever its details are
    end
  end

  # The request is malformed, or none of its rows can be drawn from.
  class InvalidRequestError < Error; end
  # The queue is full, or the deadline cannot be met.
  class OverloadedError < Error; end
  # The server cannot be reached, or is going away.
  class UnavailableError < Error; end
  # The call took longer than its timeout.
  class DeadlineError < Error; end
  # The caller no longer wants it.
  class CancelledError < Error; end
  # The token is missing or wrong.
  class UnauthenticatedError < Error; end
  # There is no distribution of that name.
  class NotFoundError < Error; end
  # There is a distribution of that name.
  class AlreadyExistsError < Error; end

  class Error
    BY_CODE = {
      GRPC::Core::StatusCodes::INVALID_ARGUMENT => InvalidRequestError,
      GRPC::Core::StatusCodes::RESOURCE_EXHAUSTED => OverloadedError,
      GRPC::Core::StatusCodes::UNAVAILABLE => UnavailableError,
      GRPC::Core::StatusCodes::DEADLINE_EXCEEDED => DeadlineError,
      GRPC::Core::StatusCodes::CANCELLED => CancelledError,
      GRPC::Core::StatusCodes::UNAUTHENTICATED => UnauthenticatedError,
      GRPC::Core::StatusCodes::NOT_FOUND => NotFoundError,
      GRPC::Core::StatusCodes::ALREADY_EXISTS => AlreadyExistsError
    }.freeze
    private_constant :BY_CODE
  end
end
