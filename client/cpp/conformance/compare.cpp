#include "compare.hpp"

#include <google/protobuf/util/field_comparator.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <samplerd/v1/sampler.pb.h>

#include <cmath>
#include <cstring>

namespace conformance {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::FieldContext;

bool is_near(float ours, float due, double tolerance) {
  return ours == due || (std::isnan(ours) && std::isnan(due)) ||
         std::abs(double{ours} - double{due}) <= tolerance;
}

/// Compares bytes that hold binary32 as the numbers that they are, and everything else as usual.
class Comparator final : public google::protobuf::util::SimpleFieldComparator {
 public:
  explicit Comparator(double tolerance) : tolerance_(tolerance) {
    set_float_comparison(APPROXIMATE);
    set_treat_nan_as_equal(true);
    SetDefaultFractionAndMargin(0.0, tolerance);
  }

  ComparisonResult Compare(const Message& ours, const Message& due, const FieldDescriptor* field,
                           int our_index, int due_index, const FieldContext* context) override {
    const auto* ours_of = dynamic_cast<const samplerd::v1::Logprobs*>(&ours);
    const auto* due_of = dynamic_cast<const samplerd::v1::Logprobs*>(&due);
    if (ours_of != nullptr && due_of != nullptr && field->name() == "raw_samples") {
      return are_near(ours_of->raw_samples(), due_of->raw_samples()) ? SAME : DIFFERENT;
    }
    return SimpleCompare(ours, due, field, our_index, due_index, context);
  }

 private:
  bool are_near(const std::string& ours, const std::string& due) const {
    bool near = ours.size() == due.size() && ours.size() % sizeof(float) == 0;
    for (std::size_t at = 0; near && at < ours.size(); at += sizeof(float)) {
      float our_value = 0.0F;
      float due_value = 0.0F;
      std::memcpy(&our_value, ours.data() + at, sizeof our_value);
      std::memcpy(&due_value, due.data() + at, sizeof due_value);
      near = is_near(our_value, due_value, tolerance_);
    }
    return near;
  }

  const double tolerance_;
};

}  // namespace

void from_json(const Json& fields, Message& message) {
  const auto status = google::protobuf::util::JsonStringToMessage(fields.dump(), &message);
  expect(status.ok(), "cannot read " + fields.dump() + ": " + status.ToString());
}

void expect_same(const std::string& name, const Message& reply, const Message& due, double tolerance) {
  google::protobuf::util::MessageDifferencer differencer;
  Comparator comparator(tolerance);
  differencer.set_field_comparator(&comparator);
  differencer.set_message_field_comparison(google::protobuf::util::MessageDifferencer::EQUIVALENT);
  if (const auto* timing = reply.GetDescriptor()->FindFieldByName("timing")) {
    differencer.IgnoreField(timing);
  }
  differencer.IgnoreField(samplerd::v1::RowError::descriptor()->FindFieldByName("message"));
  std::string difference;
  differencer.ReportDifferencesToString(&difference);
  expect(differencer.Compare(due, reply), name + ": " + difference);
}

}  // namespace conformance
