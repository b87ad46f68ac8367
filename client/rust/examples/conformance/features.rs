//! The features, each tried through the client's own calls.

use std::collections::HashMap;
use std::time::Duration;

use samplerd_client::v1::sample_request::Source;
use samplerd_client::v1::{Dtype, SampleRequest, SamplingParams};
use samplerd_client::{rows_as, rows_from_vec, sample, Client, Code, Error};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::vectors::{bytes, float, list, message, text, whole};
use crate::{replies, Outcome};

/// Where the servers are, and what they must answer.
pub struct Runner {
    flags: HashMap<String, String>,
    /// What the file holds.
    pub vectors: Value,
    tolerance: f64,
}

impl Runner {
    /// Reads the vectors.
    pub fn new(flags: &HashMap<&str, &str>) -> Result<Self, Box<dyn std::error::Error>> {
        let flags: HashMap<_, _> = flags
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let file = flags.get("--vectors").ok_or("--vectors names no file")?;
        let vectors: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let tolerance = float(&vectors["tolerance"]).ok_or("the vectors have no tolerance")?;
        Ok(Self {
            flags,
            vectors,
            tolerance,
        })
    }

    /// The value of a flag.
    pub fn flag(&self, name: &str) -> Result<&str, Box<dyn std::error::Error>> {
        let value = self.flags.get(name).map(String::as_str);
        value.ok_or_else(|| format!("{name} was not given").into())
    }

    /// A client of the plain server.
    pub async fn client(&self) -> Result<Client, Box<dyn std::error::Error>> {
        Ok(Client::builder(self.flag("--target")?).connect().await?)
    }

    /// Makes all calls, in order.
    pub async fn calls(&self) -> Outcome {
        let client = self.client().await?;
        let calls = list(&self.vectors["calls"]);
        for case in calls {
            let wrong = self.wrong_of(&client, case).await?;
            if !wrong.is_empty() {
                return Err(format!("{}: {}", case["name"], wrong.join("; ")).into());
            }
        }
        Ok(format!("{} calls", calls.len()))
    }

    /// Makes one call, and says what is wrong with what came of it.
    async fn wrong_of(&self, client: &Client, case: &Value) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        let (request, reply) = (&case["request"], &case["reply"]);
        let result = match text(&case["rpc"])? {
            "Sample" => {
                let request: SampleRequest = message(request)?;
                let id = request.id;
                let result = client.sample(request).await;
                result.map(|got| replies::sample(&got, id, reply, self.tolerance))
            }
            "VerifyDraft" => {
                let result = client.verify_draft(message(request)?).await;
                result.map(|got| replies::verify_draft(&got, reply, self.tolerance))
            }
            "CreateDistribution" => client.create_distribution(message(request)?).await.map(|_| Vec::new()),
            "DeleteDistribution" => {
                let request: samplerd_client::v1::DeleteDistributionRequest = message(request)?;
                client.delete_distribution(&request.name).await.map(|()| Vec::new())
            }
            other => return Err(format!("{other} is no call").into()),
        };
        let error = &case["error"];
        Ok(match result {
            Ok(_) if !error.is_null() => vec![format!("it was answered, not refused with {error}")],
            Ok(wrong) => wrong,
            Err(got) => wrong_error(&got, error),
        })
    }

    /// Encodes arrays, and draws from them.
    pub async fn arrays(&self) -> Outcome {
        let client = self.client().await?;
        let cases = list(&self.vectors["arrays"]);
        for case in cases {
            #[allow(clippy::cast_possible_truncation)] // they are binary32
            let numbers: Option<Vec<f32>> = list(&case["rows"])
                .iter()
                .flat_map(list)
                .map(|number| float(number).map(|number| number as f32))
                .collect();
            let dtype = Dtype::from_str_name(&format!("DTYPE_{}", text(&case["dtype"])?)).ok_or("an unknown dtype")?;
            let tensor = rows_as(&numbers.ok_or("no number")?, list(&case["rows"]).len(), dtype);
            if tensor.data != bytes(&case["data"])? {
                return Err(format!("{}: other bytes", case["name"]).into());
            }
            let mut request = sample(tensor, whole(&case["num_samples"]).ok_or("no num_samples")?);
            request.seed = whole(&case["seed"]);
            request.params = Some(SamplingParams {
                temperature: float(&case["temperature"]),
                ..Default::default()
            });
            let got = client.sample(request).await?.samples;
            let want: Option<Vec<i32>> = list(&case["samples"]).iter().map(whole).collect();
            if Some(&got) != want.as_ref() {
                return Err(format!("{}: {got:?}", case["name"]).into());
            }
        }
        Ok(format!("{} arrays", cases.len()))
    }

    /// Holds frequencies against their law.
    pub async fn frequencies(&self) -> Outcome {
        let client = self.client().await?;
        let cases = list(&self.vectors["frequencies"]);
        for case in cases {
            let samples = client.sample(message(&case["request"])?).await?.samples;
            let draws = float(&case["draws"]).ok_or("no draws")?;
            let mut statistic = 0.0;
            for (id, probability) in (0_i32..).zip(list(&case["probabilities"])) {
                #[allow(clippy::cast_precision_loss)] // far below 2^52
                let observed = samples.iter().filter(|drawn| **drawn == id).count() as f64;
                let expected = draws * float(probability).ok_or("no probability")?;
                if expected > 0.0 {
                    statistic += (observed - expected).powi(2) / expected;
                } else if observed > 0.0 {
                    return Err(format!("{}: {id} cannot be drawn, and was", case["name"]).into());
                }
            }
            let categories = list(&case["probabilities"]).len();
            let is_known = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < categories);
            let critical = float(&case["critical"]).ok_or("no critical value")?;
            #[allow(clippy::cast_precision_loss)]
            if samples.len() as f64 != draws || !samples.iter().all(is_known) || statistic > critical {
                return Err(format!("{}: {statistic} > {critical}, or strange ids", case["name"]).into());
            }
        }
        Ok(format!("{} laws", cases.len()))
    }

    /// Asks everything at once over one stream.
    pub async fn stream(&self) -> Outcome {
        let client = self.client().await?;
        let stream = std::sync::Arc::new(client.stream(1000));
        let mut asked = JoinSet::new();
        for (case, id) in list(&self.vectors["calls"]).iter().zip(1000..) {
            if case["rpc"] != "Sample" || case["reply"].is_null() {
                continue;
            }
            let mut request: SampleRequest = message(&case["request"])?;
            if matches!(request.source, Some(Source::Distribution(_))) {
                continue;
            }
            request.id = id;
            let (stream, case, tolerance) = (stream.clone(), case.clone(), self.tolerance);
            asked.spawn(async move {
                let reply = stream
                    .sample(request)
                    .await
                    .map_err(|error| format!("{}: {error}", case["name"]))?;
                match replies::sample(&reply, id, &case["reply"], tolerance).join("; ") {
                    wrong if wrong.is_empty() => Ok(()),
                    wrong => Err(format!("{}: {wrong}", case["name"])),
                }
            });
        }
        let count = asked.len();
        while let Some(result) = asked.join_next().await {
            result??;
        }
        let stream = std::sync::Arc::into_inner(stream).ok_or("the stream is still in use")?;
        stream.close().await?;
        Ok(format!("{count} requests in flight"))
    }

    /// Sends and takes more than gRPC does by default.
    pub async fn limits(&self) -> Outcome {
        let client = self.client().await?;
        let limits = client.server_info().await?.limits.ok_or("no limits")?;
        let row = rows_from_vec(vec![0.0; 3_000_000], 1);
        let got = client.sample(sample(row, 2_000_000)).await?;
        let reply_bytes = prost::Message::encoded_len(&got);
        if got.samples.len() != 2_000_000 || reply_bytes <= 4 << 20 || limits.max_message_bytes == 0 {
            return Err(format!("{} samples in {reply_bytes} bytes", got.samples.len()).into());
        }
        Ok(format!(
            "max_message_bytes {}, a reply of {reply_bytes}",
            limits.max_message_bytes
        ))
    }

    #[allow(clippy::cast_precision_loss)] // below 2^24
    fn slow(&self) -> Option<SampleRequest> {
        let slow = &self.vectors["slow"];
        let (size, modulus): (u32, u32) = (whole(&slow["vocab_size"])?, whole(&slow["modulus"])?);
        let row = rows_from_vec((0..size).map(|i| (i % modulus) as f32).collect(), 1);
        Some(sample(row, whole(&slow["num_samples"])?))
    }

    /// Is too late.
    pub async fn deadline(&self) -> Outcome {
        let client = self.client().await?.with_timeout(Duration::from_millis(50));
        let result = client.sample(self.slow().ok_or("no slow request")?).await;
        match result.map_err(|error| error.code()) {
            Err(Some(code @ (Code::DeadlineExceeded | Code::ResourceExhausted))) => Ok(format!("{code:?}")),
            other => Err(format!("it ended with {:?}", other.map(|_| "a reply")).into()),
        }
    }

    /// Changes its mind: the future of the call is dropped.
    pub async fn cancel(&self) -> Outcome {
        let client = self.client().await?;
        let request = self.slow().ok_or("no slow request")?;
        let call = tokio::spawn(async move { client.sample(request).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        if call.is_finished() {
            return Err("it was over before it could be cancelled".into());
        }
        call.abort();
        match tokio::time::timeout(Duration::from_secs(1), call).await? {
            Err(error) if error.is_cancelled() => Ok("CANCELLED".to_owned()),
            _ => Err("it was not cancelled".into()),
        }
    }
}

/// Says what is wrong with how a call failed.
fn wrong_error(got: &Error, want: &Value) -> Vec<String> {
    let code = got.code().map(|code| code as i32);
    let fields: Vec<_> = got
        .violations()
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    let wanted: Vec<_> = list(&want["fields"]).iter().filter_map(Value::as_str).collect();
    if code == whole(&want["code"]) && code.is_some() && (wanted.is_empty() || fields == wanted) {
        return Vec::new();
    }
    vec![format!("failed with {got} naming {fields:?}, not {want}")]
}
