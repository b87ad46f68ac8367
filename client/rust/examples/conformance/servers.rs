//! Which servers are called, how often, and with rows of which numbers.

use std::time::Duration;

use samplerd_client::v1::sample_request::Source;
use samplerd_client::v1::{Dtype, SampleRequest, SampleResponse, SamplingParams};
use samplerd_client::{rows, rows_from_bits, sample, Client, Code, Error};

use crate::features::Runner;
use crate::vectors::{bytes, float, list, message, text, whole};
use crate::{replies, Outcome};

async fn draw(client: &Client, distribution: &str) -> Result<SampleResponse, Error> {
    let request = SampleRequest {
        source: Some(Source::Distribution(distribution.to_owned())),
        ..SampleRequest::default()
    };
    client.sample(request).await
}

impl Runner {
    /// Meets an outage: retries are bounded over all calls, and successes give some back.
    pub async fn budget(&self) -> Outcome {
        let client = Client::builder(self.flag("--retry-target")?).connect().await?;
        for number in 0..52 {
            if (40..51).contains(&number) {
                draw(&client, "steady").await?;
                continue;
            }
            match draw(&client, "outage").await {
                Err(error) if error.code() == Some(Code::Unavailable) => {}
                other => return Err(format!("in an outage: {other:?}").into()),
            }
        }
        Ok("21 retries of 41 calls".to_owned())
    }

    /// Draws from servers some of which are not serving, or not for long.
    pub async fn servers(&self) -> Outcome {
        let client = Client::builder_of(self.flag("--servers")?.split(',')).connect().await?;
        for _ in 0..200 {
            let got = client.sample(sample(rows(&[0.0], 1), 1)).await?.samples;
            if got != [0] {
                return Err(format!("drew {got:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok("200 draws".to_owned())
    }

    /// Takes turns on four connections.
    pub async fn connections(&self) -> Outcome {
        let builder = |target: &str| Client::builder(target).connections(4);
        let client = builder(self.flag("--retry-target")?).connect().await?;
        for _ in 0..40 {
            draw(&client, "connections").await?;
        }
        let client = builder(self.flag("--target")?).connect().await?;
        for _ in 0..8 {
            self.make_worked(&client).await?;
        }
        Ok("4 connections".to_owned())
    }

    /// Calls over a Unix socket, where a token needs no TLS.
    pub async fn unix(&self) -> Outcome {
        let builder = Client::builder(self.flag("--unix-target")?).token("unasked");
        self.make_worked(&builder.connect().await?).await?;
        Ok("and a token in plain text".to_owned())
    }

    /// Makes the first of the calls.
    async fn make_worked(&self, client: &Client) -> Result<(), Box<dyn std::error::Error>> {
        let case = &self.vectors["calls"][0];
        let request: SampleRequest = message(&case["request"])?;
        let id = request.id;
        let tolerance = float(&self.vectors["tolerance"]).ok_or("the vectors have no tolerance")?;
        let wrong = replies::sample(&client.sample(request).await?, id, &case["reply"], tolerance);
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("; ").into()),
        }
    }

    /// Draws from numbers of 16 bits as they are.
    pub async fn halves(&self) -> Outcome {
        let client = self.client().await?;
        let cases = list(&self.vectors["arrays"]);
        let halves: Vec<_> = cases.iter().filter(|case| case["dtype"] != "F32").collect();
        for case in &halves {
            let data = bytes(&case["data"])?;
            let bits = data.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
            let dtype = Dtype::from_str_name(&format!("DTYPE_{}", text(&case["dtype"])?)).ok_or("an unknown dtype")?;
            let tensor = rows_from_bits(bits.collect(), list(&case["rows"]).len(), dtype);
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
        Ok(format!("{} arrays", halves.len()))
    }
}
