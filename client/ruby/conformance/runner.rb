# frozen_string_literal: true

# The conformance suite through the Ruby client: client/conformance/README.md says what is tried and printed.

require "json"
require "optparse"
require "samplerd/client"
require_relative "chunks"
require_relative "connections"
require_relative "draws"
require_relative "replies"
require_relative "requests"
require_relative "servers"

# Something is not as the suite says.
class Mismatch < StandardError; end

# Tries the features one after the other, and prints a line for each.
class Runner
  include Draws
  include Chunks
  include OwnRequests
  include Connections
  include Servers

  FLAGS = %w[target vectors retry-target servers unix-target tls-target ca token].freeze
  FEATURES = %i[
    calls parameters arrays halves guidance drafts frequencies stream chunks limits deadline cancel retry budget metadata
    servers connections unix tls token
  ].freeze

  def initialize(arguments)
    @flags = {}
    parser = OptionParser.new
    FLAGS.each { |name| parser.on("--#{name} VALUE") { |value| @flags[name] = value } }
    parser.parse!(arguments)
    @vectors = JSON.parse(File.read(flag("vectors")))
    @replies = Replies.new(@vectors["tolerance"])
  end

  # Returns whether all passed.
  def run
    FEATURES.map { |name| passed?(name) }.all?
  end

  private

  def passed?(name)
    report(name, "pass", public_send(name))
    true
  rescue StandardError => e # whatever it is, the other features are tried
    warn "#{name}: #{e.class}: #{e.message}"
    report(name, "fail", e.is_a?(Mismatch) ? e.message.tr("\t\n", "  ") : e.class.name)
    false
  end

  def report(*columns)
    puts columns.join("\t")
    $stdout.flush
  end

  def flag(name)
    @flags.fetch(name) { raise Mismatch, "--#{name} was not given" }
  end

  def connect(&)
    Samplerd::Client.open(flag("target"), &)
  end

  def expect(condition, text)
    raise Mismatch, text unless condition
  end
end

exit(Runner.new(ARGV).run)
