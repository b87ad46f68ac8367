# frozen_string_literal: true

module Samplerd
  # Makes requests of keyword arguments.
  module Requests
    # Names of sampling parameters (temperature:, top_p:, ...).
    PARAMS = V1::SamplingParams.descriptor.map { |field| field.name.to_sym }.freeze
    # Names of outputs (logprobs:, top_n:, ...).
    OUTPUTS = V1::Outputs.descriptor.map { |field| field.name.to_sym }.freeze
    # Names of the request's own fields (num_samples:, seed:, ...).
    SAMPLE = V1::SampleRequest.descriptor.map { |field| field.name.to_sym }.freeze
    VERIFY = V1::VerifyDraftRequest.descriptor.map { |field| field.name.to_sym }.freeze
    CREATE = V1::CreateDistributionRequest.descriptor.map { |field| field.name.to_sym }.freeze
    private_constant :PARAMS, :OUTPUTS, :SAMPLE, :VERIFY, :CREATE

    module_function

    # A SampleRequest. rows: one row, several, a V1::Tensor, or nil where another source is named (values:, candidates:,
    # distribution:, shared_memory:). options: any field of SamplingParams, Outputs or SampleRequest by its name, and
    #
    # dtype::         what arrays are sent as: :f32 (default), :f16, :bf16, :f64
    # guidance::      the second row of every row, arrays like rows; used with guidance_scale:
    # replacement::   false: no id twice in one row
    # probabilities:: true: the numbers are weights
    #
    # Enums by the last part of their name: logprobs: [:raw, :processed], order: :vllm, frequency_scope: :output.
    # Sequences of tokens are arrays: bad_words: [[7], [8, 9]], dry: { multiplier: 1.0, breaker_sequences: [[1, 2]] }.
    def sample(rows = nil, **options)
      return rows if rows.is_a?(V1::SampleRequest) && options.empty?

      fields = split(options, SAMPLE)
      fields[:tensor] = tensor(rows, options) if rows
      fields[:values] = values(fields[:values]) if fields[:values].is_a?(Array)
      fields[:guidance] = guidance(fields[:guidance], options) if fields[:guidance]
      V1::SampleRequest.new(**fields)
    end

    # A VerifyDraftRequest: n + 1 rows of the target, n drafted tokens, and the n rows that they were drawn from
    # (probabilities; nil: the draft was greedy). parents: of a tree, for each drafted token the index of the one that it
    # follows; -1: it follows the sequence.
    def verify(target, draft_ids = nil, draft = nil, **options)
      return target if target.is_a?(V1::VerifyDraftRequest) && draft_ids.nil? && options.empty?

      fields = split(options, VERIFY)
      fields.merge!(target: tensor(target, options), draft_ids: draft_ids)
      fields[:draft] = tensor(draft, options) if draft
      V1::VerifyDraftRequest.new(**fields)
    end

    # A CreateDistributionRequest. ttl: in seconds.
    def create(rows = nil, **options)
      return rows if rows.is_a?(V1::CreateDistributionRequest) && options.empty?

      fields = split(options, CREATE)
      fields[:tensor] = tensor(rows, options) if rows
      fields[:values] = values(fields[:values]) if fields[:values].is_a?(Array)
      fields[:ttl] = duration(fields[:ttl]) if fields[:ttl].is_a?(Numeric)
      V1::CreateDistributionRequest.new(**fields)
    end

    def split(options, own)
      params, others = options.except(:dtype, :probabilities).partition { |name, _| PARAMS.include?(name) }.map(&:to_h)
      outputs, fields = others.partition { |name, _| own.include?(:outputs) && OUTPUTS.include?(name) }.map(&:to_h)
      unknown = fields.keys - own
      raise ArgumentError, "unknown keywords: #{unknown.join(', ')}" unless unknown.empty?

      fields[:kind] = :INPUT_KIND_PROBABILITIES if options[:probabilities]
      fields[:kind] = enum(:INPUT_KIND, fields[:kind]) if fields[:kind]
      fields[:replacement] = replacement(fields[:replacement]) if fields.key?(:replacement)
      fields[:params] = params_of(params) unless params.empty?
      fields[:outputs] = outputs_of(outputs) unless outputs.empty?
      fields
    end
    private_class_method :split

    def params_of(params)
      if params[:logit_bias].is_a?(Hash)
        params = params.merge(logit_bias: params[:logit_bias].map { |id, bias| { id: id, bias: bias } })
      end
      message(V1::SamplingParams, params)
    end
    private_class_method :params_of

    # A message of a Hash, in which enums may be short and sequences of tokens arrays.
    def message(kind, values)
      return values if values.is_a?(kind)

      fields = values.to_h do |name, value|
        field = kind.descriptor.lookup(name.to_s) or raise ArgumentError, "unknown keyword: #{name}"
        many = field.label == :repeated && value.respond_to?(:map)
        [name.to_sym, many ? value.map { |item| field_value(field, item) } : field_value(field, value)]
      end
      kind.new(**fields)
    end
    private_class_method :message

    def field_value(field, value)
      case field.type
      when :enum then value && enum(field.subtype.lookup_value(0).to_s.delete_suffix("_UNSPECIFIED"), value)
      when :message
        value = { ids: value } if field.subtype.msgclass == V1::TokenSequence && value.is_a?(Array)
        value && message(field.subtype.msgclass, value)
      else value
      end
    end
    private_class_method :field_value

    def outputs_of(outputs)
      kinds = outputs.slice(:logprobs, :entropy).transform_values do |names|
        Array(names).map { |name| enum(:LOGPROB_KIND, name) }
      end
      V1::Outputs.new(**outputs, **kinds)
    end
    private_class_method :outputs_of

    def replacement(value)
      case value
      when true then :REPLACEMENT_WITH
      when false then :REPLACEMENT_WITHOUT
      else enum(:REPLACEMENT, value)
      end
    end
    private_class_method :replacement

    def enum(prefix, value)
      return value if value.is_a?(Integer)
      return value.to_sym if value.to_s.start_with?("#{prefix}_")

      :"#{prefix}_#{value.to_s.upcase}"
    end
    private_class_method :enum

    def tensor(rows, options)
      rows.is_a?(V1::Tensor) ? rows : Tensors.encode(rows, options.fetch(:dtype, :f32))
    end
    private_class_method :tensor

    def guidance(rows, options)
      rows.is_a?(Array) || rows.is_a?(V1::Tensor) ? V1::Guidance.new(tensor: tensor(rows, options)) : rows
    end
    private_class_method :guidance

    def values(rows)
      V1::Values.new(row: rows.map { |row| V1::Values::Row.new(values: row) })
    end
    private_class_method :values

    def duration(seconds)
      nanos = (seconds * 1_000_000_000).round
      Google::Protobuf::Duration.new(seconds: nanos / 1_000_000_000, nanos: nanos % 1_000_000_000)
    end
    private_class_method :duration
  end
end
