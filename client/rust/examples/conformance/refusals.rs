//! Servers that refuse: that are full, that want a token, that nobody vouches for.

use samplerd_client::v1::sample_request::Source;
use samplerd_client::v1::{values, SampleRequest, SamplingParams, Values};
use samplerd_client::{rows, sample, Builder, Client, Code, Error};
use std::time::Duration;

use crate::features::Runner;
use crate::vectors::{list, whole};
use crate::Outcome;

impl Runner {
    /// Is refused, and tries again only where that is allowed.
    pub async fn retry(&self) -> Outcome {
        let client = Client::builder(self.flag("--retry-target")?).connect().await?;
        let ask = |id| {
            let mut request = sample(rows(&[0.0], 1), 1);
            (request.id, request.seed) = (id, Some(id));
            client.sample(request)
        };
        for id in [1, 4] {
            let got = ask(id).await?.samples;
            if got != [7] {
                return Err(format!("request {id} was answered with {got:?}").into());
            }
        }
        for (id, code) in [(2, Code::ResourceExhausted), (3, Code::InvalidArgument)] {
            match ask(id).await {
                Err(error) if error.code() == Some(code) => {}
                other => return Err(format!("request {id}: {other:?}").into()),
            }
        }
        Ok("tried again twice".to_owned())
    }

    /// Sends metadata, and the name of the distribution that is drawn from.
    pub async fn metadata(&self) -> Outcome {
        let builder = Client::builder(self.flag("--retry-target")?).metadata("x-tenant", "conformance");
        let request = SampleRequest {
            source: Some(Source::Distribution("prior".to_owned())),
            ..SampleRequest::default()
        };
        let got = builder.connect().await?.sample(request).await?.samples;
        if got != [7] {
            return Err(format!("answered with {got:?}").into());
        }
        Ok("and the distribution's name".to_owned())
    }

    async fn sample_over_tls(&self, with: impl FnOnce(Builder) -> Builder) -> Result<Vec<i32>, Error> {
        let target = self
            .flag("--tls-target")
            .map_err(|error| Error::Config(error.to_string()))?;
        let row = values::Row {
            values: vec![1.0, 2.0, 0.5, 1.5],
        };
        let request = SampleRequest {
            params: Some(SamplingParams {
                temperature: Some(0.7),
                ..Default::default()
            }),
            num_samples: 5,
            seed: Some(1234),
            source: Some(Source::Values(Values { row: vec![row] })),
            ..Default::default()
        };
        let client = with(Client::builder(target).timeout(Duration::from_secs(5)))
            .connect()
            .await?;
        Ok(client.sample(request).await?.samples)
    }

    /// Asks over TLS, and does not trust a stranger.
    pub async fn tls(&self) -> Outcome {
        let (ca, token) = (std::fs::read(self.flag("--ca")?)?, self.flag("--token")?);
        let got = self.sample_over_tls(|builder| builder.ca(&ca).token(token)).await?;
        let want = &self.vectors["calls"][0]["reply"]["samples"];
        let want: Option<Vec<i32>> = list(want).iter().map(whole).collect();
        if Some(&got) != want.as_ref() {
            return Err(format!("drew {got:?}").into());
        }
        match self.sample_over_tls(|builder| builder.tls().token(token)).await {
            Err(Error::Connect(_)) => Ok("and refused without the CA".to_owned()),
            other => Err(format!("without the CA: {other:?}").into()),
        }
    }

    /// Is turned away without the right token.
    pub async fn token(&self) -> Outcome {
        let ca = std::fs::read(self.flag("--ca")?)?;
        for token in [Some("wrong"), None] {
            let with = |builder: Builder| match token {
                Some(token) => builder.ca(&ca).token(token),
                None => builder.ca(&ca),
            };
            match self.sample_over_tls(with).await {
                Err(error) if error.code() == Some(Code::Unauthenticated) => {}
                other => return Err(format!("with the token {token:?}: {other:?}").into()),
            }
        }
        Ok("UNAUTHENTICATED".to_owned())
    }
}
