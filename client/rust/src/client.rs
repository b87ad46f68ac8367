//! The calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::Request;

use crate::chunks::Chunks;
use crate::error::Error;
use crate::pool::Pool;
use crate::retry::{with_retries, RetryBudget, RetryPolicy};
use crate::stream::SampleStream;
use crate::v1::sample_request::Source;
use crate::v1::{
    CreateDistributionRequest, DeleteDistributionRequest, Distribution, GetDistributionRequest, GetServerInfoRequest,
    GetServerInfoResponse, ListDistributionsRequest, ListDistributionsResponse, SampleRequest, SampleResponse,
    VerifyDraftRequest, VerifyDraftResponse,
};

/// Connections to a samplerd, or to several. Cheap to clone; clones share them. All calls may be made at once.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Arc<Pool>,
    metadata: MetadataMap,
    options: CallOptions,
    budget: Arc<RetryBudget>,
}

/// How a call is made.
#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    /// Bounds the call with all its retries.
    pub timeout: Duration,
    /// How often it is tried again.
    pub retry: RetryPolicy,
}

/// Makes a call that changes nothing, with retries.
macro_rules! call {
    ($client:expr, $method:ident, $message:expr) => {{
        let (client, message) = ($client, $message);
        let deadline = Instant::now() + client.options.timeout;
        with_retries(&client.options.retry, &client.budget, deadline, || {
            let request = client.request(message.clone(), deadline);
            async move {
                let mut stub = client.pool.next().await?;
                stub.$method(request).await.map(tonic::Response::into_inner)
            }
        })
        .await
    }};
}

impl Client {
    /// `connect` has `Client::builder`, which is how clients are made.
    pub(crate) fn new(pool: Pool, metadata: MetadataMap, options: CallOptions) -> Self {
        Self {
            pool: Arc::new(pool),
            metadata,
            options,
            budget: Arc::new(RetryBudget::new(&options.retry)),
        }
    }

    /// A clone whose calls have this time each, retries included.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let options = CallOptions {
            timeout,
            ..self.options
        };
        Self {
            options,
            ..self.clone()
        }
    }

    /// A clone whose calls are tried again by this policy, with a budget of its own.
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Self {
        let options = CallOptions { retry, ..self.options };
        Self {
            options,
            budget: Arc::new(RetryBudget::new(&retry)),
            ..self.clone()
        }
    }

    /// Draws from every row of a request. The samples are row-major: rows x `num_samples`.
    ///
    /// # Errors
    /// [`Error::Call`]. A row that cannot be drawn from does not fail the call unless all are such rows: see
    /// `row_errors` of the reply; its samples are -1.
    pub async fn sample(&self, request: SampleRequest) -> Result<SampleResponse, Error> {
        call!(self, sample, request)
    }

    /// Draws any number of samples from an uploaded distribution in bounded memory; waits for the first part. The server
    /// draws as the parts are taken. [`from_distribution`](crate::from_distribution) makes the request.
    ///
    /// The client's timeout bounds the wait for each part, for the first one with all attempts: until it comes the call is
    /// tried again as others are, and not after it. What was broken off can be continued with the same seed and, for one
    /// row, a `draw_offset` that is larger by the samples taken.
    ///
    /// # Errors
    /// [`Error::Call`]: `NotFound` if there is no distribution of that name, or as [`Chunks::next`].
    pub async fn draw_chunks(&self, request: SampleRequest) -> Result<Chunks, Error> {
        let wait = self.options.timeout;
        let deadline = Instant::now() + wait;
        let (replies, first) = with_retries(&self.options.retry, &self.budget, deadline, || {
            let request = self.about(request.clone());
            async move {
                let mut stub = self.pool.next().await?;
                let mut replies = stub.sample_distribution(request).await?.into_inner();
                let first = replies.message().await?;
                Ok((replies, first))
            }
        })
        .await?;
        Ok(Chunks::new(replies, first, wait))
    }

    /// Accepts or corrects the drafted tokens of a sequence (speculative decoding).
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn verify_draft(&self, request: VerifyDraftRequest) -> Result<VerifyDraftResponse, Error> {
        call!(self, verify_draft, request)
    }

    /// Says what the server is, what it can do and where its limits are.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn server_info(&self) -> Result<GetServerInfoResponse, Error> {
        call!(self, get_server_info, GetServerInfoRequest {})
    }

    /// Uploads rows that later requests draw from by name. Never tried again: it may have been done.
    ///
    /// # Errors
    /// [`Error::Call`]: `AlreadyExists` if the name is taken, `ResourceExhausted` if there is no room.
    pub async fn create_distribution(&self, request: CreateDistributionRequest) -> Result<Distribution, Error> {
        let reply = call!(&self.once(), create_distribution, request)?;
        Ok(reply.distribution.unwrap_or_default())
    }

    /// Describes an uploaded distribution.
    ///
    /// # Errors
    /// [`Error::Call`]: `NotFound` if there is none of that name.
    pub async fn distribution(&self, name: &str) -> Result<Distribution, Error> {
        let name = name.to_owned();
        let reply = call!(self, get_distribution, GetDistributionRequest { name })?;
        Ok(reply.distribution.unwrap_or_default())
    }

    /// Frees an uploaded distribution. Never tried again: a second time it would not be found.
    ///
    /// # Errors
    /// [`Error::Call`]: `NotFound` if there is none of that name.
    pub async fn delete_distribution(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        call!(&self.once(), delete_distribution, DeleteDistributionRequest { name }).map(|_| ())
    }

    /// Lists a page of the uploaded distributions, by name.
    ///
    /// # Errors
    /// [`Error::Call`].
    pub async fn list_distributions(
        &self,
        request: ListDistributionsRequest,
    ) -> Result<ListDistributionsResponse, Error> {
        call!(self, list_distributions, request)
    }

    /// Opens a stream for many requests at once, at most `max_in_flight` of them unanswered. It has no deadline.
    ///
    /// # Panics
    /// If `max_in_flight` is 0.
    #[must_use]
    pub fn stream(&self, max_in_flight: usize) -> SampleStream {
        SampleStream::open(self.pool.now(), max_in_flight, |messages| {
            self.authorize(Request::new(messages))
        })
    }

    fn once(&self) -> Self {
        let mut once = self.clone();
        once.options.retry.max_attempts = 1;
        once
    }

    fn request<T: Concerns>(&self, message: T, deadline: Instant) -> Request<T> {
        let mut request = self.about(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        request
    }

    /// A request without a deadline.
    fn about<T: Concerns>(&self, message: T) -> Request<T> {
        let about = MetadataValue::try_from(message.distribution()).ok();
        let mut request = self.authorize(Request::new(message));
        if let Some(name) = about.filter(|name| !name.is_empty()) {
            request.metadata_mut().insert("x-samplerd-distribution", name);
        }
        request
    }

    fn authorize<T>(&self, mut request: Request<T>) -> Request<T> {
        *request.metadata_mut() = self.metadata.clone();
        request
    }
}

/// A request that may be about an uploaded distribution.
trait Concerns {
    /// The distribution's name; empty: it is about none.
    fn distribution(&self) -> &str {
        ""
    }
}

impl Concerns for SampleRequest {
    fn distribution(&self) -> &str {
        match &self.source {
            Some(Source::Distribution(name)) => name,
            _ => "",
        }
    }
}

macro_rules! named {
    ($($message:ty),*) => {
        $(impl Concerns for $message {
            fn distribution(&self) -> &str {
                &self.name
            }
        })*
    };
}
named!(
    CreateDistributionRequest,
    GetDistributionRequest,
    DeleteDistributionRequest
);

impl Concerns for VerifyDraftRequest {}
impl Concerns for GetServerInfoRequest {}
impl Concerns for ListDistributionsRequest {}
