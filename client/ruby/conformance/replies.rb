# frozen_string_literal: true

require "base64"

# Compares a reply with its ProtoJSON: floats within a tolerance, all else exactly; what is not there is empty or zero.
class Replies
  # What is the server's own: where the time went, and texts for people.
  IGNORED = %w[timing message].freeze

  def initialize(tolerance)
    @tolerance = tolerance
  end

  def same?(got, want)
    fields = got.class.descriptor.to_a
    unknown = want.keys - fields.map(&:name)
    unknown.empty? && fields.all? { |field| IGNORED.include?(field.name) || same_field?(field, got, want) }
  end

  private

  def same_field?(field, message, want)
    got = field.get(message)
    due = want[field.name]
    if field.label == :repeated
      due ||= []
      return got.size == due.size && got.zip(due).all? { |one, other| same_value?(field, one, other) }
    end
    return floats?(got, due || "") if field.name == "raw_samples" && want.key?("kind")

    same_value?(field, got, due)
  end

  def same_value?(field, got, due)
    case field.type
    when :message then got.nil? || due.nil? ? got.nil? && due.nil? : same?(got, due)
    when :float, :double then close?(got, number(due || 0.0))
    when :bytes then got == Base64.decode64(due || "")
    when :string then got == (due || "")
    when :bool then got == (due || false)
    when :enum then field.subtype.lookup_name(got) == (due || 0)
    else got == (due || 0).to_i
    end
  end

  def floats?(got, due)
    ours, theirs = [got, Base64.decode64(due)].map { |bytes| bytes.unpack("e*") }
    ours.size == theirs.size && ours.zip(theirs).all? { |one, other| close?(one, other) }
  end

  def close?(got, due)
    got == due || (got.nan? && due.nan?) || (got - due).abs <= @tolerance
  end

  def number(json)
    { "NaN" => Float::NAN, "Infinity" => Float::INFINITY, "-Infinity" => -Float::INFINITY }.fetch(json, json)
  end
end
