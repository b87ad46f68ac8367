# frozen_string_literal: true

require_relative "lib/samplerd/client/version"

Gem::Specification.new do |spec|
  spec.name = "samplerd-client"
  spec.version = Samplerd::Client::VERSION
  spec.summary = "A client of samplerd: logits in, samples out"
  spec.authors = ["The samplerd authors"]
  spec.license = "Apache-2.0"
  spec.required_ruby_version = ">= 3.1"
  spec.files = Dir["lib/**/*.rb", "README.md", "LICENSE"]
  spec.files += Dir["build/stubs/**/*.rb"] # made by `make build`
  spec.require_paths = ["lib", "build/stubs"]
  spec.add_dependency "googleapis-common-protos-types", "~> 1.4"
  spec.add_dependency "google-protobuf", ">= 3.21", "< 5"
  spec.add_dependency "grpc", "~> 1.51"
  spec.metadata = { "rubygems_mfa_required" => "true" }
end
