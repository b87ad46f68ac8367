//! Recommends slates: ranked lists of distinct films, drawn from scores. A film is as likely to come first as its score
//! says; what is left is drawn from again for the second place, and so on (the law of Plackett and Luce).
//!
//! `cargo run --example slates -- --target 127.0.0.1:50051`

use std::error::Error;
use std::time::Duration;

use samplerd_client::v1::{LogprobKind, Outputs, Replacement, SamplingParams};
use samplerd_client::{rows, sample, Client};

const SLATE: usize = 3;
const CATALOGUE: [&str; 6] = ["Alien", "Brazil", "Casablanca", "Dune", "Eraserhead", "Fargo"];
/// One row of scores for each viewer.
const VIEWERS: [&str; 2] = ["Ada", "Grace"];
const SCORES: [f32; 12] = [2.1, 0.3, -0.5, 1.8, 0.9, 0.2, -1.0, 0.8, 2.4, 0.1, -0.7, 1.9];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut flags = std::env::args().skip_while(|flag| flag != "--target").skip(1);
    let target = flags.next().unwrap_or_else(|| "127.0.0.1:50051".to_owned());

    let builder = Client::builder(&target).timeout(Duration::from_secs(10));
    let client = builder.connect().await?;

    let mut request = sample(rows(&SCORES, VIEWERS.len()), u32::try_from(SLATE)?);
    request.seed = Some(7); // without one, each run recommends something else
    request.set_replacement(Replacement::Without);
    request.params = Some(SamplingParams {
        temperature: Some(0.8), // lower: closer to the ranking by score
        ..Default::default()
    });
    request.outputs = Some(Outputs {
        logprobs: vec![LogprobKind::Processed.into()],
        ..Default::default()
    });
    let reply = client.sample(request).await?;

    // Samples and their log-probabilities are row-major: SLATE of them for each viewer.
    let logprobs = reply.logprobs[0].samples.chunks(SLATE);
    for ((viewer, slate), logprobs) in VIEWERS.iter().zip(reply.samples.chunks(SLATE)).zip(logprobs) {
        println!("For {viewer}:");
        for (place, (&id, logprob)) in slate.iter().zip(logprobs).enumerate() {
            let title = CATALOGUE[usize::try_from(id)?];
            println!(
                "  {}. {title:12} {:3.0} % of what was left",
                place + 1,
                100.0 * logprob.exp()
            );
        }
    }
    Ok(())
}
