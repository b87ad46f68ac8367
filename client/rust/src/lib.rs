//! Client of samplerd: logits in, samples out.
//!
//! ```no_run
//! use samplerd_client::{rows, sample, Client};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), samplerd_client::Error> {
//! let client = Client::builder("127.0.0.1:50051").connect().await?;
//! let mut request = sample(rows(&[1.0, 2.0, 0.5, 1.5], 1), 5);
//! request.seed = Some(1234);
//! let reply = client.sample(request).await?;
//! println!("{:?}", reply.samples); // row-major: rows x num_samples
//! # Ok(())
//! # }
//! ```
//!
//! Every call takes a message of [`v1`], so all that the contract offers can be reached; [`rows`], [`rows_as`] and
//! [`sample`] make the usual ones. Dropping the future of a call cancels it, on the server too.

mod chunks;
mod client;
mod connect;
mod error;
mod pool;
mod retry;
mod rows;
mod stream;

pub use chunks::{Chunk, Chunks};
pub use client::{CallOptions, Client};
pub use connect::Builder;
pub use error::{CallError, Error, RetryHint, Violation};
pub use retry::RetryPolicy;
pub use rows::{bf16_bits, f16_bits, from_distribution, rows, rows_as, rows_from_bits, rows_from_vec, sample};
pub use stream::SampleStream;
pub use tonic::Code;

/// What protoc made, in modules nested as its references expect.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
mod proto {
    pub mod samplerd {
        /// The messages of `samplerd/v1/sampler.proto`, and its raw stub.
        pub mod v1 {
            tonic::include_proto!("samplerd.v1");
        }
    }
    pub mod google {
        /// What errors carry.
        pub mod rpc {
            tonic::include_proto!("google.rpc");
        }
    }
}

pub use proto::google::rpc;
pub use proto::samplerd::v1;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
