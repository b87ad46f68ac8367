# frozen_string_literal: true

# What the client makes of keywords and arrays: parameters, guidance, drafts.
module OwnRequests
  NUMBERS = { "NaN" => Float::NAN, "Infinity" => Float::INFINITY, "-Infinity" => -Float::INFINITY }.freeze

  def parameters
    own = @vectors["parameters"]
    failed = connect do |client|
      own["cases"].reject do |each|
        options = keywords(Samplerd::V1::SamplingParams.descriptor, each["params"])
        options.update(seed: own["seed"], num_samples: own["num_samples"])
        client.sample(own["tables"][each["table"]], **options).flat_samples == each["samples"]
      end
    end
    expect(failed.empty?, failed.map { |each| each["name"] }.join("; "))
    "#{own['cases'].size} sets of parameters"
  end

  def guidance
    connect do |client|
      @vectors["guidance"].each do |each|
        options = %w[guidance guidance_scale top_k seed num_samples].to_h { |name| [name.to_sym, each[name]] }
        samples = client.sample(each["rows"], **options).flat_samples
        expect(samples == each["samples"], "#{each['name']}: drew #{samples}")
      end
    end
    "#{@vectors['guidance'].size} pairs of rows"
  end

  def drafts
    connect do |client|
      @vectors["drafts"].each do |each|
        options = %w[parents temperature seed].to_h { |name| [name.to_sym, each[name]] }
        draft = each["draft"].empty? ? nil : each["draft"]
        reply = client.verify_draft(each["target"], each["draft_ids"], draft, **options)
        found = [reply.samples.to_a, reply.accepted, reply.path.to_a]
        expect(found == each.values_at("samples", "accepted", "path"), "#{each['name']}: #{found}")
      end
    end
    "#{@vectors['drafts'].size} drafts"
  end

  private

  # What the client's callers write for a message's ProtoJSON.
  def keywords(descriptor, json)
    json.to_h { |name, value| [name.to_sym, keyword(descriptor.lookup(name), value)] }
  end

  def keyword(field, value)
    return value.to_h { |each| [each["id"], number(each["bias"])] } if field.name == "logit_bias"
    return value.map { |item| keyword_item(field, item) } if field.label == :repeated

    keyword_item(field, value)
  end

  def keyword_item(field, value)
    case field.type
    when :enum then value.delete_prefix(field.subtype.lookup_value(0).to_s.delete_suffix("UNSPECIFIED")).downcase.to_sym
    when :bytes then Base64.decode64(value)
    when :message then field.subtype.name.end_with?("TokenSequence") ? value["ids"] : keywords(field.subtype, value)
    else number(value)
    end
  end

  def number(value)
    NUMBERS.fetch(value, value)
  end
end
