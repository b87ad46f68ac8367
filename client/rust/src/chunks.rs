//! Large draws, chunk by chunk.

use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use tokio::time::{sleep, Instant, Sleep};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::error::{CallError, Error};
use crate::v1::SampleResponse;

/// A part of a large draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Index of its first id in the row-major sequence of all rows x `num_samples` ids.
    pub offset: u64,
    /// The ids drawn, in whichever form they came.
    pub samples: Vec<i32>,
    /// What came with them: its number (`chunk`), the seed that was used, whether it is the last (`final`).
    pub reply: SampleResponse,
}

/// A large draw from an uploaded distribution, in order: see [`Client::draw_chunks`](crate::Client::draw_chunks).
///
/// The server draws as the chunks are taken. Each wait for one has the client's timeout. Dropping it ends the call. It is a
/// [`Stream`], too; a failure comes last.
#[derive(Debug)]
pub struct Chunks(Draw<Streaming<SampleResponse>>);

impl Chunks {
    pub(crate) fn new(replies: Streaming<SampleResponse>, first: Option<SampleResponse>, wait: Duration) -> Self {
        Self(Draw::new(replies, first, wait))
    }

    /// Waits for the next chunk; `None` after the last one, or after a failure.
    ///
    /// # Errors
    /// [`Error::Call`]: `DeadlineExceeded` if the chunk took too long, `Unavailable` if the call ended before the last one,
    /// or as the server says.
    pub async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for Chunks {
    type Item = Result<Chunk, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll(context)
    }
}

/// The same over any replies.
#[derive(Debug)]
struct Draw<S> {
    replies: Option<S>, // until nothing more is wanted
    first: Option<SampleResponse>,
    wait: Duration,
    late: Pin<Box<Sleep>>,
    is_waiting: bool, // and then `late` says how long
    is_final: bool,   // the last chunk was given; what is left is the end of the call
    offset: u64,
}

impl<S: Stream<Item = Result<SampleResponse, Status>> + Unpin> Draw<S> {
    fn new(replies: S, first: Option<SampleResponse>, wait: Duration) -> Self {
        Self {
            replies: Some(replies),
            first,
            wait,
            late: Box::pin(sleep(wait)),
            is_waiting: false,
            is_final: false,
            offset: 0,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Chunk, Error>>> {
        let Some(replies) = self.replies.as_mut() else {
            return Poll::Ready(None);
        };
        if let Some(reply) = self.first.take() {
            return Poll::Ready(Some(Ok(self.chunk(reply))));
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.late.as_mut().reset(Instant::now() + self.wait);
        }
        let failure = match Pin::new(replies).poll_next(context) {
            Poll::Ready(Some(Ok(reply))) if !self.is_final => return Poll::Ready(Some(Ok(self.chunk(reply)))),
            Poll::Ready(Some(Err(status))) => status.into(),
            Poll::Ready(_) => Status::unavailable("the server ended the call before the last chunk").into(),
            Poll::Pending => {
                ready!(self.late.as_mut().poll(context));
                Box::new(CallError::deadline()).into()
            }
        };
        self.replies = None; // which ends the call
        Poll::Ready((!self.is_final).then_some(Err(failure)))
    }

    fn chunk(&mut self, reply: SampleResponse) -> Chunk {
        self.is_waiting = false;
        self.is_final = reply.r#final;
        let samples = if reply.raw_samples.is_empty() {
            reply.samples.clone()
        } else {
            let numbers = reply.raw_samples.chunks_exact(4);
            numbers
                .map(|bytes| i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                .collect()
        };
        let offset = self.offset;
        self.offset += samples.len() as u64;
        Chunk { offset, samples, reply }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::{iter, pending, StreamExt};
    use tonic::Code;

    use super::*;

    fn reply(chunk: u32) -> SampleResponse {
        SampleResponse {
            samples: vec![7, 8],
            chunk,
            r#final: chunk == 2,
            ..SampleResponse::default()
        }
    }

    async fn all<S: Stream<Item = Result<SampleResponse, Status>> + Unpin>(
        mut draw: Draw<S>,
    ) -> (Vec<(u64, u32)>, Option<Code>) {
        let mut got = Vec::new();
        loop {
            match poll_fn(|context| draw.poll(context)).await {
                Some(Ok(chunk)) => got.push((chunk.offset, chunk.reply.chunk)),
                Some(Err(error)) => return (got, error.code()),
                None => return (got, None),
            }
        }
    }

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn chunks_come_in_order_and_end_with_the_last() {
        let draw = Draw::new(iter([Ok(reply(1)), Ok(reply(2))]), Some(reply(0)), LONG);
        assert_eq!(all(draw).await, (vec![(0, 0), (2, 1), (4, 2)], None));
    }

    #[tokio::test]
    async fn a_call_that_ends_early_or_fails_is_told_once() {
        let cut = Draw::new(iter([]), Some(reply(0)), LONG);
        assert_eq!(all(cut).await, (vec![(0, 0)], Some(Code::Unavailable)));
        let mut full = Draw::new(iter([Err(Status::resource_exhausted("full"))]), Some(reply(0)), LONG);
        assert!(poll_fn(|context| full.poll(context)).await.unwrap().is_ok());
        let error = poll_fn(|context| full.poll(context)).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Some(Code::ResourceExhausted));
        assert!(poll_fn(|context| full.poll(context)).await.is_none());
        assert!(full.replies.is_none());
    }

    #[tokio::test]
    async fn each_wait_is_bounded_and_not_their_sum() {
        let silent = Draw::new(iter([Ok(reply(1))]).chain(pending()), Some(reply(0)), SHORT);
        assert_eq!(all(silent).await, (vec![(0, 0), (2, 1)], Some(Code::DeadlineExceeded)));
        let mut slow = Draw::new(iter([Ok(reply(1))]), Some(reply(0)), SHORT);
        assert!(poll_fn(|context| slow.poll(context)).await.unwrap().is_ok());
        sleep(2 * SHORT).await; // spent by the caller, and not by a wait
        assert!(poll_fn(|context| slow.poll(context)).await.unwrap().is_ok());
    }

    #[test]
    fn ids_are_read_in_both_forms() {
        let raw = SampleResponse {
            raw_samples: vec![1, 0, 0, 0, 255, 255, 255, 255],
            ..SampleResponse::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut draw = Draw::new(iter([]), None, LONG);
            assert_eq!(draw.chunk(raw).samples, [1, -1]);
            assert_eq!(draw.chunk(reply(1)).offset, 2);
        });
    }
}
