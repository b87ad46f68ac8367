# frozen_string_literal: true

require "grpc"
require "google/protobuf/well_known_types"
require "google/rpc/error_details_pb"
require "samplerd/v1/sampler_services_pb"

require_relative "client/version"
require_relative "client/errors"
require_relative "client/retry_policy"
require_relative "client/retry_budget"
require_relative "client/tensors"
require_relative "client/requests"
require_relative "client/result"
require_relative "client/connection"
require_relative "client/call"
require_relative "client/draw"
require_relative "client/stream"
require_relative "client/client"
