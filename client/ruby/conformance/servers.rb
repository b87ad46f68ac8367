# frozen_string_literal: true

# Which servers are called and how: budget, servers, connections, unix.
module Servers
  def budget
    Samplerd::Client.open(flag("retry-target")) do |client|
      40.times { fails(Samplerd::UnavailableError) { client.sample(distribution: "outage") } }
      11.times { client.sample(distribution: "steady") }
      fails(Samplerd::UnavailableError) { client.sample(distribution: "outage") }
    end
    "21 retries of 41 calls"
  end

  def servers
    Samplerd::Client.open(flag("servers").split(",")) do |client|
      200.times do
        samples = client.sample([0.0]).samples
        expect(samples == [[0]], "drew #{samples}")
        sleep 0.01
      end
    end
    "200 draws"
  end

  def connections
    Samplerd::Client.open(flag("retry-target"), connections: 4) do |client|
      40.times { client.sample(distribution: "connections") }
    end
    Samplerd::Client.open(flag("target"), connections: 4) { |client| 8.times { worked(client) } }
    "4 connections"
  end

  def unix
    Samplerd::Client.open(flag("unix-target"), token: "unasked") { |client| worked(client) }
    "and a token in plain text"
  end

  private

  # Makes the first of the calls.
  def worked(client)
    first = @vectors["calls"].first
    check_reply(first["name"], client.sample(decode(first)).response, first["reply"])
  end
end
