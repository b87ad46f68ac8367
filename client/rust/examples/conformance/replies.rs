//! Whether a reply is the one that the vectors have.

use base64::prelude::{Engine, BASE64_STANDARD};
use samplerd_client::v1::{Entropies, Logprobs, RowError, SampleResponse, VerifyDraftResponse};
use serde_json::Value;

use crate::vectors::{bytes, float, whole};

/// Compares fields by name, and remembers which names it was asked for, so that none of the vectors' goes unseen.
struct Fields<'a> {
    want: &'a Value,
    tolerance: f64,
    wrong: Vec<String>,
    seen: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    fn new(want: &'a Value, tolerance: f64) -> Self {
        let (wrong, seen) = (Vec::new(), Vec::new());
        Self {
            want,
            tolerance,
            wrong,
            seen,
        }
    }

    fn get(&mut self, name: &'static str) -> &'a Value {
        self.seen.push(name);
        &self.want[name]
    }

    fn note(&mut self, is_same: bool, name: &str, got: &dyn std::fmt::Debug) {
        if !is_same {
            self.wrong.push(format!("{name} is {got:?}, not {}", self.want[name]));
        }
    }

    fn whole<T: Into<i128>>(&mut self, name: &'static str, got: T) {
        let (want, got) = (self.get(name), got.into());
        self.note(got == or_zero(want), name, &got);
    }

    fn wholes<T: Into<i128> + Copy>(&mut self, name: &'static str, got: &[T]) {
        let got: Vec<i128> = got.iter().map(|number| (*number).into()).collect();
        let want: Option<Vec<i128>> = items(self.get(name)).iter().map(whole).collect();
        self.note(want.as_ref() == Some(&got), name, &got);
    }

    fn floats<T: Into<f64> + Copy + std::fmt::Debug>(&mut self, name: &'static str, got: &[T]) {
        let want: Option<Vec<f64>> = items(self.get(name)).iter().map(float).collect();
        let is_same = want.is_some_and(|want| are_close(got, &want, self.tolerance));
        self.note(is_same, name, &got);
    }

    fn text(&mut self, name: &'static str, got: &str) {
        let want = self.get(name).as_str().unwrap_or_default();
        self.note(got == want, name, &got);
    }

    fn messages<T>(&mut self, name: &'static str, got: &[T], compare: fn(&T, &Value, f64) -> Vec<String>) {
        let want = items(self.get(name));
        self.note(want.len() == got.len(), name, &got.len());
        for (got, want) in got.iter().zip(want) {
            self.wrong.extend(compare(got, want, self.tolerance));
        }
    }

    /// All that is wrong, fields included that nobody asked for.
    fn wrong(mut self) -> Vec<String> {
        for name in self.want.as_object().into_iter().flat_map(|fields| fields.keys()) {
            if !self.seen.contains(&name.as_str()) {
                self.wrong.push(format!("{name} is not compared"));
            }
        }
        self.wrong
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn or_zero(value: &Value) -> i128 {
    match value {
        Value::Null => 0,
        Value::Bool(is_true) => i128::from(*is_true),
        _ => whole(value).unwrap_or(i128::MIN),
    }
}

fn are_close<T: Into<f64> + Copy>(got: &[T], want: &[f64], tolerance: f64) -> bool {
    got.len() == want.len()
        && got.iter().zip(want).all(|(got, want)| {
            let got: f64 = (*got).into();
            got == *want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= tolerance
        })
}

/// Compares a reply of Sample; `id` is the id that it must have. Returns what is wrong.
pub fn sample(got: &SampleResponse, id: u64, want: &Value, tolerance: f64) -> Vec<String> {
    let mut fields = Fields::new(want, tolerance);
    fields.get("id");
    fields.note(got.id == id, "id", &got.id);
    fields.wholes("samples", &got.samples);
    fields.text("raw_samples", &BASE64_STANDARD.encode(&got.raw_samples));
    fields.whole("seed", got.seed);
    fields.text("rng", &got.rng);
    fields.messages("logprobs", &got.logprobs, logprobs);
    fields.wholes("ranks", &got.ranks);
    fields.messages("entropies", &got.entropies, entropies);
    fields.wholes("kept_count", &got.kept_count);
    fields.floats("kept_mass", &got.kept_mass);
    fields.floats("adaptive_weighted_sum", &got.adaptive_weighted_sum);
    fields.floats("adaptive_total_weight", &got.adaptive_total_weight);
    fields.messages("row_errors", &got.row_errors, row_error);
    fields.note(got.error.is_none(), "error", &got.error);
    fields.whole("chunk", got.chunk);
    fields.whole("final", got.r#final);
    fields.get("timing"); // the server's own
    fields.wrong()
}

/// Compares a reply of VerifyDraft. Returns what is wrong.
pub fn verify_draft(got: &VerifyDraftResponse, want: &Value, tolerance: f64) -> Vec<String> {
    let mut fields = Fields::new(want, tolerance);
    fields.whole("id", got.id);
    fields.wholes("samples", &got.samples);
    fields.whole("accepted", got.accepted);
    fields.wholes("path", &got.path);
    fields.whole("seed", got.seed);
    fields.text("rng", &got.rng);
    fields.messages("row_errors", &got.row_errors, row_error);
    fields.note(got.error.is_none(), "error", &got.error);
    fields.get("timing"); // the server's own
    fields.wrong()
}

fn logprobs(got: &Logprobs, want: &Value, tolerance: f64) -> Vec<String> {
    let mut fields = Fields::new(want, tolerance);
    fields.whole("kind", got.kind);
    fields.floats("samples", &got.samples);
    let theirs = fields.get("raw_samples");
    let theirs = if theirs.is_null() {
        Vec::new()
    } else {
        bytes(theirs).unwrap_or_default()
    };
    let theirs: Vec<f64> = from_raw(&theirs).into_iter().map(f64::from).collect();
    let ours = from_raw(&got.raw_samples);
    fields.note(are_close(&ours, &theirs, tolerance), "raw_samples", &ours);
    fields.wholes("top_ids", &got.top_ids);
    fields.floats("top", &got.top);
    fields.floats("named", &got.named);
    fields.wrong()
}

fn from_raw(bytes: &[u8]) -> Vec<f32> {
    let fours = bytes.chunks_exact(4);
    fours
        .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .collect()
}

fn entropies(got: &Entropies, want: &Value, tolerance: f64) -> Vec<String> {
    let mut fields = Fields::new(want, tolerance);
    fields.whole("kind", got.kind);
    fields.floats("nats", &got.nats);
    fields.wrong()
}

fn row_error(got: &RowError, want: &Value, tolerance: f64) -> Vec<String> {
    let mut fields = Fields::new(want, tolerance);
    fields.whole("row", got.row);
    fields.whole("code", got.code);
    fields.whole("reason", got.reason);
    fields.get("message"); // the server's own
    fields.wrong()
}
