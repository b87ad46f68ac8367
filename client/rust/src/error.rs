//! What can go wrong, as types.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};

use crate::rpc;

/// A failure of this client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server, or the way to it, answered with a status; or the deadline passed.
    #[error(transparent)]
    Call(#[from] Box<CallError>),
    /// No connection: a wrong address, nobody there, or a certificate that is not trusted.
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// Something that this client was told makes no sense, or is not safe.
    #[error("{0}")]
    Config(String),
    /// The stream was closed before it answered this request.
    #[error("the stream is closed")]
    StreamClosed,
}

impl Error {
    /// The status code, if a call failed.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call(error) => Some(error.code),
            _ => None,
        }
    }

    /// The fields in error, if the server named any.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        match self {
            Self::Call(error) => &error.violations,
            _ => &[],
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(CallError::from(status)))
    }
}

/// A field of a request that the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name, dotted where nested: `params.top_p`.
    pub field: String,
    /// What is wrong with it, for people.
    pub description: String,
}

/// How a call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct CallError {
    /// The status code.
    pub code: Code,
    /// Why, for people.
    pub message: String,
    /// The fields in error, in the server's order.
    pub violations: Vec<Violation>,
    /// What the server said of trying again.
    pub retry: RetryHint,
}

/// What a server said of trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryHint {
    /// Nothing.
    None,
    /// Try again after exactly this time.
    After(Duration),
    /// Do not try again.
    Never,
}

impl RetryHint {
    /// Reads `grpc-retry-pushback-ms`: a negative or unreadable number means never.
    fn of(status: &Status) -> Self {
        let Some(value) = status.metadata().get("grpc-retry-pushback-ms") else {
            return Self::None;
        };
        let milliseconds = value.to_str().ok().and_then(|text| text.parse::<i32>().ok());
        match milliseconds.map(u64::try_from) {
            Some(Ok(milliseconds)) => Self::After(Duration::from_millis(milliseconds)),
            _ => Self::Never,
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let details = rpc::Status::decode(status.details()).unwrap_or_default();
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            violations: violations(&details),
            retry: RetryHint::of(&status),
        }
    }
}

impl From<rpc::Status> for CallError {
    /// A failure that came inside a reply of a stream. `RetryInfo` is its hint.
    fn from(status: rpc::Status) -> Self {
        let retry = find::<rpc::RetryInfo>(&status, "google.rpc.RetryInfo")
            .and_then(|info| info.retry_delay)
            .and_then(|delay| Duration::try_from(delay).ok())
            .map_or(RetryHint::None, RetryHint::After);
        Self {
            code: Code::from(status.code),
            violations: violations(&status),
            message: status.message,
            retry,
        }
    }
}

impl CallError {
    /// The deadline passed on this side.
    pub(crate) fn deadline() -> Self {
        Self {
            code: Code::DeadlineExceeded,
            message: "the deadline has passed".to_owned(),
            violations: Vec::new(),
            retry: RetryHint::None,
        }
    }
}

fn find<M: Message + Default>(status: &rpc::Status, name: &str) -> Option<M> {
    let any = status
        .details
        .iter()
        .find(|any| any.type_url.rsplit('/').next() == Some(name))?;
    M::decode(any.value.as_slice()).ok()
}

fn violations(status: &rpc::Status) -> Vec<Violation> {
    let bad = find::<rpc::BadRequest>(status, "google.rpc.BadRequest").unwrap_or_default();
    let named = bad.field_violations.into_iter();
    named
        .map(|violation| Violation {
            field: violation.field,
            description: violation.description,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushback(text: &'static str) -> RetryHint {
        let mut status = Status::resource_exhausted("full");
        let value = tonic::metadata::MetadataValue::from_static(text);
        status.metadata_mut().insert("grpc-retry-pushback-ms", value);
        CallError::from(status).retry
    }

    #[test]
    fn a_pushback_is_read_exactly() {
        assert_eq!(pushback("0"), RetryHint::After(Duration::ZERO));
        assert_eq!(pushback("100"), RetryHint::After(Duration::from_millis(100)));
        assert_eq!(pushback("-1"), RetryHint::Never);
        assert_eq!(pushback("soon"), RetryHint::Never);
        let silent = CallError::from(Status::unavailable("away"));
        assert_eq!(silent.retry, RetryHint::None);
    }

    #[test]
    fn violations_are_found_among_the_details() {
        let field = rpc::bad_request::FieldViolation {
            field: "params.top_p".to_owned(),
            ..Default::default()
        };
        let bad = rpc::BadRequest {
            field_violations: vec![field],
        };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
            value: bad.encode_to_vec(),
        };
        let status = rpc::Status {
            code: 3,
            message: "no".to_owned(),
            details: vec![any],
        };
        let error = CallError::from(status);
        assert_eq!(error.code, Code::InvalidArgument);
        assert_eq!(error.violations[0].field, "params.top_p");
    }
}
