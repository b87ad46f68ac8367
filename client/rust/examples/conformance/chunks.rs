//! Large draws, chunk by chunk.

use std::time::Duration;

use samplerd_client::v1::{
    create_distribution_request, CreateDistributionRequest, Outputs, SampleRequest, SamplingParams,
};
use samplerd_client::{from_distribution, Client, Code, Error};
use serde_json::Value;

use crate::features::Runner;
use crate::requests::{rows_of, wholes};
use crate::vectors::{float, list, whole};
use crate::Outcome;

const ENDLESS: u32 = 2_000_000_000;

type Checked<T = ()> = Result<T, Box<dyn std::error::Error>>;

impl Runner {
    /// Draws in chunks from a samplerd, and from a server that refuses, breaks off and waits.
    pub async fn chunks(&self) -> Outcome {
        let client = self.client().await?;
        let own = &self.vectors["chunks"];
        let made = client
            .create_distribution(CreateDistributionRequest {
                source: Some(create_distribution_request::Source::Tensor(rows_of(&own["rows"])?)),
                ..Default::default()
            })
            .await?;
        let cases = list(&own["cases"]);
        for case in cases {
            draw(&client, &made.name, case).await?;
        }
        let mut wrong = from_distribution(&made.name, 1);
        wrong.params = Some(temperature(Some(-1.0)));
        let refused = failure(&client, wrong, 0, Code::InvalidArgument).await?;
        if refused
            .violations()
            .iter()
            .map(|each| &each.field)
            .ne(["params.temperature"])
        {
            return Err(format!("a refusal names {:?}", refused.violations()).into());
        }
        failure(&client, from_distribution("there.is.none", 1), 0, Code::NotFound).await?;
        stop_early(&client, &made.name).await?;
        client.delete_distribution(&made.name).await?;
        refuse(&Client::builder(self.flag("--retry-target")?).connect().await?).await?;
        Ok(format!("{} draws", cases.len()))
    }
}

fn temperature(temperature: Option<f64>) -> SamplingParams {
    SamplingParams {
        temperature,
        ..Default::default()
    }
}

async fn draw(client: &Client, name: &str, case: &Value) -> Checked {
    let mut request = from_distribution(name, whole(&case["num_samples"]).ok_or("no num_samples")?);
    request.seed = whole(&case["seed"]);
    request.draw_offset = whole(&case["draw_offset"]).ok_or("no draw_offset")?;
    request.params = Some(temperature(float(&case["temperature"])));
    request.outputs = Some(Outputs {
        raw_samples: request.draw_offset > 0,
        ..Default::default()
    });
    let seed = request.seed;
    let (mut got, mut number, mut is_final) = (Vec::new(), 0, false);
    let mut chunks = client.draw_chunks(request).await?;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        if is_final || chunk.reply.chunk != number || chunk.offset != got.len() as u64 || Some(chunk.reply.seed) != seed
        {
            return Err(format!("chunk {number}: {chunk:?}").into());
        }
        got.extend(chunk.samples);
        number += 1;
        is_final = chunk.reply.r#final;
    }
    if number < 2 || !is_final || Some(&got) != wholes(&case["samples"]).as_ref() {
        return Err(format!("{}: {got:?} in {number} chunks", case["name"]).into());
    }
    Ok(())
}

/// Meets a server that is busy before the first chunk, and one that is not there after it.
async fn refuse(client: &Client) -> Checked {
    let from = |name| from_distribution(name, 1);
    let patient = client.with_timeout(Duration::from_secs(2));
    let hasty = client.with_timeout(Duration::from_millis(300));
    for (client, name, due) in [(client, "busy", 2), (&patient, "slow", 5)] {
        match count(client, from(name)).await {
            (number, None) if number == due => {}
            other => return Err(format!("{name}: {other:?}").into()),
        }
    }
    failure(client, from("broken"), 1, Code::Unavailable).await?;
    failure(client, from("cut"), 1, Code::Unavailable).await?;
    failure(&hasty, from("silent"), 1, Code::DeadlineExceeded).await?;
    stop_early(client, "endless").await?;
    let got = client.sample(from("left")).await?.samples; // answered once no draw is in flight
    if got != [7] {
        return Err(format!("answered with {got:?}").into());
    }
    Ok(())
}

/// Counts the chunks of a draw, and says how it failed.
async fn count(client: &Client, request: SampleRequest) -> (u32, Option<Error>) {
    let mut number = 0;
    let mut chunks = match client.draw_chunks(request).await {
        Ok(chunks) => chunks,
        Err(error) => return (number, Some(error)),
    };
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(_) => number += 1,
            Err(error) => return (number, Some(error)),
        }
    }
    (number, None)
}

/// How a draw fails, after so many chunks.
async fn failure(client: &Client, request: SampleRequest, chunks: u32, code: Code) -> Checked<Error> {
    match count(client, request).await {
        (number, Some(error)) if number == chunks && error.code() == Some(code) => Ok(error),
        other => Err(format!("{other:?}, where {code:?} was due after {chunks} chunks").into()),
    }
}

async fn stop_early(client: &Client, name: &str) -> Checked {
    let mut chunks = client.draw_chunks(from_distribution(name, ENDLESS)).await?;
    for number in 0..2 {
        match chunks.next().await {
            Some(Ok(chunk)) if chunk.reply.chunk == number => {}
            other => return Err(format!("{name}, chunk {number}: {other:?}").into()),
        }
    }
    Ok(())
}
