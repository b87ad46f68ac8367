//! The features whose requests are built from numbers.

use samplerd_client::v1::{guidance, Guidance, SamplingParams, Tensor, VerifyDraftRequest};
use samplerd_client::{rows, sample};
use serde_json::Value;

use crate::features::Runner;
use crate::vectors::{float, list, message, text, whole};
use crate::Outcome;

impl Runner {
    /// Sets parameters, and names the cases that failed.
    pub async fn parameters(&self) -> Outcome {
        let client = self.client().await?;
        let all = &self.vectors["parameters"];
        let mut failed = Vec::new();
        for case in list(&all["cases"]) {
            let table: usize = whole(&case["table"]).ok_or("no table")?;
            let mut request = sample(
                rows_of(&all["tables"][table])?,
                whole(&all["num_samples"]).ok_or("no num_samples")?,
            );
            request.seed = whole(&all["seed"]);
            request.params = Some(message::<SamplingParams>(&case["message"])?);
            let got = client.sample(request).await.map(|reply| reply.samples);
            if got.ok() != wholes(&case["samples"]) {
                failed.push(text(&case["name"])?);
            }
        }
        if failed.is_empty() {
            return Ok(format!("{} sets of parameters", list(&all["cases"]).len()));
        }
        Err(failed.join("; ").into())
    }

    /// Guides rows by rows.
    pub async fn guidance(&self) -> Outcome {
        let client = self.client().await?;
        let cases = list(&self.vectors["guidance"]);
        for case in cases {
            let count = whole(&case["num_samples"]).ok_or("no num_samples")?;
            let mut request = sample(rows_of(&case["rows"])?, count);
            request.guidance = Some(Guidance {
                source: Some(guidance::Source::Tensor(rows_of(&case["guidance"])?)),
            });
            request.seed = whole(&case["seed"]);
            request.params = Some(SamplingParams {
                guidance_scale: float(&case["guidance_scale"]),
                top_k: whole(&case["top_k"]).ok_or("no top_k")?,
                ..Default::default()
            });
            let got = client.sample(request).await?.samples;
            if Some(&got) != wholes(&case["samples"]).as_ref() {
                return Err(format!("{}: {got:?}", case["name"]).into());
            }
        }
        Ok(format!("{} pairs of rows", cases.len()))
    }

    /// Verifies chains and trees.
    pub async fn drafts(&self) -> Outcome {
        let client = self.client().await?;
        let cases = list(&self.vectors["drafts"]);
        for case in cases {
            let draft = &case["draft"];
            let request = VerifyDraftRequest {
                draft_ids: wholes(&case["draft_ids"]).ok_or("no draft_ids")?,
                parents: wholes(&case["parents"]).ok_or("no parents")?,
                draft: if list(draft).is_empty() {
                    None
                } else {
                    Some(rows_of(draft)?)
                },
                target: Some(rows_of(&case["target"])?),
                seed: whole(&case["seed"]),
                params: Some(SamplingParams {
                    temperature: float(&case["temperature"]),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let got = client.verify_draft(request).await?;
            let is_due = Some(&got.samples) == wholes(&case["samples"]).as_ref()
                && Some(&got.path) == wholes(&case["path"]).as_ref()
                && Some(got.accepted) == whole(&case["accepted"]);
            if !is_due {
                return Err(format!("{}: {:?} by {:?}", case["name"], got.samples, got.path).into());
            }
        }
        Ok(format!("{} drafts", cases.len()))
    }
}

pub fn rows_of(table: &Value) -> Result<Tensor, Box<dyn std::error::Error>> {
    let each = list(table).iter().map(numbers).collect::<Result<Vec<_>, _>>()?;
    Ok(rows(&each.concat(), each.len()))
}

#[allow(clippy::cast_possible_truncation)] // they are binary32
fn numbers(row: &Value) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let numbers: Option<Vec<f32>> = list(row).iter().map(|x| float(x).map(|x| x as f32)).collect();
    numbers.ok_or_else(|| format!("{row} has no numbers").into())
}

pub fn wholes<T: TryFrom<i128>>(value: &Value) -> Option<Vec<T>> {
    list(value).iter().map(whole).collect()
}
