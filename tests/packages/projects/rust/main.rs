use samplerd_client::v1::SamplingParams;
use samplerd_client::{rows, sample, Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let target = std::env::args().nth(1).expect("a target");
    let client = Client::builder(&target).connect().await?;
    let mut request = sample(rows(&[1.0, 2.0, 0.5, 1.5], 1), 5);
    request.seed = Some(1234);
    request.params = Some(SamplingParams { temperature: Some(0.7), ..Default::default() });
    println!("{:?}", client.sample(request).await?.samples);
    Ok(())
}
