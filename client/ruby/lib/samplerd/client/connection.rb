# frozen_string_literal: true

require "ipaddr"

module Samplerd
  # Whom to trust and who to be. PEM text; nil trusts the authorities that gRPC brings.
  TlsConfig = Struct.new(:ca, :certificate, :key, :server_name, keyword_init: true) do
    # The same from files.
    def self.from_files(ca: nil, certificate: nil, key: nil, server_name: nil)
      new(
        ca: ca && File.read(ca), certificate: certificate && File.read(certificate), key: key && File.read(key),
        server_name: server_name
      )
    end

    def credentials
      raise ArgumentError, "a certificate needs its key, and a key its certificate" if certificate.nil? != key.nil?

      GRPC::Core::ChannelCredentials.new(ca, key, certificate)
    end
  end

  # How a connection is made.
  #
  # Rule 1: a token is sent only where nobody can read it, unless the caller insists. Rule 2: gRPC's own retries are
  # off.
  module Connection
    # Room for 16 million samples with three kinds of log-probabilities; gRPC's own default holds a million samples.
    MAX_MESSAGE_BYTES = 256 * 1024 * 1024
    # An error may name many rows; gRPC's own default of 8 KiB holds about a hundred.
    MAX_METADATA_BYTES = 256 * 1024

    module_function

    def open(target, tls:, max_message_bytes:)
      arguments = {
        "grpc.enable_retries" => 0,
        "grpc.max_receive_message_length" => max_message_bytes,
        "grpc.max_send_message_length" => -1,
        "grpc.max_metadata_size" => MAX_METADATA_BYTES,
        "grpc.primary_user_agent" => "samplerd-ruby/#{Client::VERSION}",
        # A restarted server is found again within a second, not within gRPC's two minutes.
        "grpc.initial_reconnect_backoff_ms" => 100,
        "grpc.max_reconnect_backoff_ms" => 1000,
        # Five minutes is the shortest ping interval that a server with default settings tolerates.
        "grpc.keepalive_time_ms" => 300_000,
        "grpc.keepalive_timeout_ms" => 20_000
      }
      arguments["grpc.ssl_target_name_override"] = tls.server_name if tls&.server_name
      GRPC::Core::Channel.new(target, arguments, tls ? tls.credentials : :this_channel_is_insecure)
    end

    # What every call carries.
    def metadata(target, token:, tls:, allow_plaintext_token:)
      return {} if token.nil?

      unless tls || allow_plaintext_token || local?(target)
        raise ArgumentError,
              "the token would cross the network to #{target} in plain text; give tls:, or allow_plaintext_token: true"
      end
      { "authorization" => "Bearer #{token}" }
    end

    # Whether the target is a Unix socket or the loopback interface.
    def local?(target)
      return true if target.start_with?("unix:", "unix-abstract:")

      host = target.rpartition(":").first.delete_prefix("ipv4:").delete_prefix("ipv6:").delete("[]")
      host == "localhost" || IPAddr.new(host).loopback?
    rescue IPAddr::Error
      false
    end
  end
end
