//! The runner of the conformance suite: see client/conformance/README.md.

mod chunks;
mod features;
mod refusals;
mod replies;
mod requests;
mod servers;
mod vectors;

use std::collections::HashMap;
use std::process::ExitCode;

use features::Runner;

/// What a feature ends with: a detail to tell, or what went wrong.
type Outcome = Result<String, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let flags: HashMap<_, _> = words
        .chunks_exact(2)
        .map(|pair| (pair[0].as_str(), pair[1].as_str()))
        .collect();
    let runner = match Runner::new(&flags) {
        Ok(runner) => runner,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let passed = [
        tell("calls", runner.calls().await),
        tell("parameters", runner.parameters().await),
        tell("arrays", runner.arrays().await),
        tell("halves", runner.halves().await),
        tell("guidance", runner.guidance().await),
        tell("drafts", runner.drafts().await),
        tell("frequencies", runner.frequencies().await),
        tell("stream", runner.stream().await),
        tell("chunks", runner.chunks().await),
        tell("limits", runner.limits().await),
        tell("deadline", runner.deadline().await),
        tell("cancel", runner.cancel().await),
        tell("retry", runner.retry().await),
        tell("budget", runner.budget().await),
        tell("metadata", runner.metadata().await),
        tell("servers", runner.servers().await),
        tell("connections", runner.connections().await),
        tell("unix", runner.unix().await),
        tell("tls", runner.tls().await),
        tell("token", runner.token().await),
    ];
    ExitCode::from(u8::from(passed.contains(&false)))
}

fn tell(feature: &str, outcome: Outcome) -> bool {
    match &outcome {
        Ok(detail) => println!("{feature}\tpass\t{detail}"),
        Err(error) => {
            let error = error.to_string().replace(['\t', '\n'], " ");
            eprintln!("{feature}: {error}");
            println!("{feature}\tfail\t{error}");
        }
    }
    outcome.is_ok()
}
