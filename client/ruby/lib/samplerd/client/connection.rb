# frozen_string_literal: true

require "ipaddr"
require "json"
require "securerandom"

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

    # gRPC's service config: calls go to the servers in turn, and a server that starts or drains gets none.
    BALANCED = JSON.generate(
      "loadBalancingConfig" => [{ "round_robin" => {} }],
      "healthCheckConfig" => { "serviceName" => "samplerd.v1.SamplerService" }
    )

    PING_INTERVAL_MS = 5_000
    PING_TIMEOUT_MS = 10_000

    module_function

    # targets: one or several, as Client.new takes them. own: a connection that no other channel shares.
    def open(targets, tls:, max_message_bytes:, balance: false, own: false)
      arguments = {
        "grpc.enable_retries" => 0,
        "grpc.max_receive_message_length" => max_message_bytes,
        "grpc.max_send_message_length" => -1,
        "grpc.max_metadata_size" => MAX_METADATA_BYTES,
        "grpc.primary_user_agent" => "samplerd-ruby/#{Client::VERSION}",
        # A restarted server is found again within a second, not within gRPC's two minutes.
        "grpc.initial_reconnect_backoff_ms" => 100,
        "grpc.max_reconnect_backoff_ms" => 1000,
        # A frozen server keeps its connections and says nothing: while calls are in flight, it is asked whether it is
        # there, and a samplerd takes two pings a second. Which of the last two holds depends on the version of gRPC.
        "grpc.keepalive_time_ms" => PING_INTERVAL_MS,
        "grpc.http2.min_time_between_pings_ms" => PING_INTERVAL_MS,
        "grpc.http2.max_pings_without_data" => 0,
        "grpc.keepalive_timeout_ms" => PING_TIMEOUT_MS,
        "grpc.http2.ping_timeout_ms" => PING_TIMEOUT_MS
      }
      # A proxy that the environment names for the world outside cannot reach this machine's own addresses.
      arguments["grpc.enable_http_proxy"] = 0 if targets.all? { |target| local?(target) }
      arguments["grpc.service_config"] = BALANCED if balance
      # Without it all channels of a process to one address share a connection.
      arguments["grpc.use_local_subchannel_pool"] = 1 if own
      arguments["grpc.ssl_target_name_override"] = tls.server_name if tls&.server_name
      GRPC::Core::Channel.new(joint(targets), arguments, tls ? tls.credentials : :this_channel_is_insecure)
    end

    # The one name by which gRPC knows these addresses, which are of one kind: it looks up one name at a time.
    def joint(targets)
      return targets.first if targets.size == 1

      kinds, addresses = targets.map { |target| kind_and_address(target) }.transpose
      if targets.empty? || kinds.uniq.size > 1 || kinds.first.nil?
        raise ArgumentError, "several targets must all be IPv4 addresses, all IPv6 addresses, or all Unix sockets, " \
                             "got #{targets.join(', ')}; a name with several addresses is one target, with balance: true"
      end
      "#{kinds.first}:#{addresses.join(',')}"
    end

    def kind_and_address(target)
      kind, _, rest = target.partition(":")
      return ["unix", rest.delete_prefix("//")] if kind == "unix"
      return [kind, rest] if %w[ipv4 ipv6].include?(kind)

      [IPAddr.new(target.rpartition(":").first.delete("[]")).ipv4? ? "ipv4" : "ipv6", target]
    rescue IPAddr::Error
      [nil, target]
    end

    # What every call carries. All callers of a Unix socket have one address: by their names the server gives each its own
    # fair share.
    def metadata(targets, token:, tls:, allow_plaintext_token:)
      name = targets.any? { |target| unix?(target) } ? { "x-samplerd-client" => SecureRandom.hex(8) } : {}
      return name if token.nil?

      unless tls || allow_plaintext_token || targets.all? { |target| local?(target) }
        raise ArgumentError,
              "the token would cross the network to #{targets.join(', ')} in plain text; give tls:, or allow_plaintext_token: true"
      end
      { "authorization" => "Bearer #{token}", **name }
    end

    # The name of the distribution that a request is about, if any, as metadata. The server refuses any name with other
    # characters.
    def about(request)
      name = request.is_a?(V1::SampleRequest) ? request.distribution : (request.name if request.respond_to?(:name))
      name&.match?(/\A[\x21-\x7e]+\z/) ? { "x-samplerd-distribution" => name } : {}
    end

    def unix?(target)
      target.start_with?("unix:", "unix-abstract:")
    end

    # Whether the target is a Unix socket or the loopback interface.
    def local?(target)
      return true if unix?(target)

      host = target.rpartition(":").first.delete_prefix("ipv4:").delete_prefix("ipv6:").delete("[]")
      host == "localhost" || IPAddr.new(host).loopback?
    rescue IPAddr::Error
      false
    end
  end
end
