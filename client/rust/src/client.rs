//! The calls.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::Request;

use crate::error::Error;
use crate::retry::{with_retries, RetryPolicy};
use crate::stream::SampleStream;
use crate::v1::sampler_service_client::SamplerServiceClient;
use crate::v1::{
    CreateDistributionRequest, DeleteDistributionRequest, Distribution, GetDistributionRequest, GetServerInfoRequest,
    GetServerInfoResponse, ListDistributionsRequest, ListDistributionsResponse, SampleRequest, SampleResponse,
    VerifyDraftRequest, VerifyDraftResponse,
};

/// A connection to a samplerd. Cheap to clone; clones share the connection. All calls may be made at once.
#[derive(Debug, Clone)]
pub struct Client {
    stub: SamplerServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
    options: CallOptions,
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
        with_retries(&client.options.retry, deadline, || {
            let mut stub = client.stub.clone();
            let request = client.request(message.clone(), deadline);
            async move { stub.$method(request).await.map(tonic::Response::into_inner) }
        })
        .await
    }};
}

impl Client {
    /// `connect` has `Client::builder`, which is how clients are made.
    pub(crate) fn new(
        channel: Channel,
        authorization: Option<MetadataValue<Ascii>>,
        options: CallOptions,
        max_reply_bytes: usize,
    ) -> Self {
        let stub = SamplerServiceClient::new(channel)
            .max_decoding_message_size(max_reply_bytes)
            .max_encoding_message_size(usize::MAX); // the server's limit is the one that counts
        Self {
            stub,
            authorization,
            options,
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

    /// A clone whose calls are tried again by this policy.
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Self {
        let options = CallOptions { retry, ..self.options };
        Self {
            options,
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
        SampleStream::open(self.stub.clone(), max_in_flight, |messages| {
            self.authorize(Request::new(messages))
        })
    }

    fn once(&self) -> Self {
        self.with_retry(RetryPolicy {
            max_attempts: 1,
            ..self.options.retry
        })
    }

    fn request<T>(&self, message: T, deadline: Instant) -> Request<T> {
        let mut request = self.authorize(Request::new(message));
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        request
    }

    fn authorize<T>(&self, mut request: Request<T>) -> Request<T> {
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        request
    }
}
