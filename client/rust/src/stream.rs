//! Many requests over one call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, Semaphore};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::error::{CallError, Error};
use crate::v1::sampler_service_client::SamplerServiceClient;
use crate::v1::{SampleRequest, SampleResponse};

/// Ids that the stream chooses begin here, far from what callers choose.
const FIRST_OWN_ID: u64 = 1 << 63;

type Reply = Result<SampleResponse, Error>;

/// A call that carries many requests, answered in the order in which they are ready.
///
/// [`SampleStream::sample`] may be called from many tasks at once. Each gets its own reply or its own error; one that
/// fails leaves the others alone. Nothing is tried again. [`SampleStream::close`] ends it in order; dropping it cancels
/// what is in flight.
#[derive(Debug)]
pub struct SampleStream {
    requests: mpsc::Sender<SampleRequest>,
    waiting: Waiting,
    room: Semaphore,
    next_id: AtomicU64,
    pump: Pump,
}

/// Who waits for which id. What a broken stream ended with takes the place of all of them.
#[derive(Debug, Clone, Default)]
struct Waiting(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    replies: HashMap<u64, mpsc::UnboundedSender<Reply>>,
    ended: Option<Option<Status>>,
}

impl Waiting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: u64) -> Result<(mpsc::UnboundedReceiver<Reply>, Seat), Error> {
        let (sender, replies) = mpsc::unbounded_channel();
        let mut state = self.state();
        if let Some(ended) = &state.ended {
            return Err(ending(ended.as_ref()));
        }
        if state.replies.contains_key(&id) {
            return Err(Error::Config(format!("id {id} is already in flight on this stream")));
        }
        state.replies.insert(id, sender);
        let waiting = self.clone();
        Ok((replies, Seat { waiting, id }))
    }

    /// Hands a reply to its caller; drops it if the caller has stopped waiting.
    fn hand_out(&self, mut reply: SampleResponse) {
        let state = self.state();
        if let Some(sender) = state.replies.get(&reply.id) {
            let result = match reply.error.take() {
                Some(error) => Err(Box::new(CallError::from(error)).into()),
                None => Ok(reply),
            };
            let _ = sender.send(result);
        }
    }

    fn end(&self, status: Option<Status>) {
        let mut state = self.state();
        for (_, sender) in state.replies.drain() {
            let _ = sender.send(Err(ending(status.as_ref())));
        }
        state.ended = Some(status);
    }
}

fn ending(status: Option<&Status>) -> Error {
    status.map_or(Error::StreamClosed, |status| status.clone().into())
}

/// Gives an id back when its request is over, however it ends.
#[derive(Debug)]
struct Seat {
    waiting: Waiting,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.waiting.state().replies.remove(&self.id);
    }
}

/// The task that reads replies; stops with the stream.
#[derive(Debug)]
struct Pump(JoinHandle<()>);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SampleStream {
    pub(crate) fn open(
        mut stub: SamplerServiceClient<Channel>,
        max_in_flight: usize,
        authorize: impl FnOnce(ReceiverStream<SampleRequest>) -> Request<ReceiverStream<SampleRequest>>,
    ) -> Self {
        assert!(max_in_flight > 0, "a stream without a request in flight does nothing");
        let (requests, messages) = mpsc::channel(1); // what is not yet sent waits with its caller
        let call = authorize(ReceiverStream::new(messages));
        let waiting = Waiting::default();
        let to = waiting.clone();
        let pump = Pump(tokio::spawn(async move {
            let ended = match stub.sample_stream(call).await {
                Ok(response) => read_all(response.into_inner(), &to).await,
                Err(status) => Some(status),
            };
            to.end(ended);
        }));
        Self {
            requests,
            waiting,
            room: Semaphore::new(max_in_flight),
            next_id: AtomicU64::new(FIRST_OWN_ID),
            pump,
        }
    }

    /// Draws from every row of a request; a reply in chunks is put together. Waits for room first. An id of 0 lets the
    /// stream choose one; any other must not be in flight.
    ///
    /// # Errors
    /// [`Error::Call`] for this request, or for all when the stream breaks; [`Error::StreamClosed`] if the server ended
    /// it; [`Error::Config`] for an id in flight.
    pub async fn sample(&self, mut request: SampleRequest) -> Result<SampleResponse, Error> {
        let _room = self.room.acquire().await.map_err(|_| Error::StreamClosed)?;
        if request.id == 0 {
            request.id = self.next_id.fetch_add(1, Ordering::Relaxed);
        }
        let (mut replies, _seat) = self.waiting.add(request.id)?;
        if self.requests.send(request).await.is_err() {
            // The call is over; its end, which tells why, is on its way to us.
            return replies.recv().await.unwrap_or(Err(Error::StreamClosed));
        }
        let mut whole = replies.recv().await.unwrap_or(Err(Error::StreamClosed))?;
        while !whole.r#final {
            let chunk = replies.recv().await.unwrap_or(Err(Error::StreamClosed))?;
            append(&mut whole, chunk);
        }
        Ok(whole)
    }

    /// Says that no more requests come, and waits until the server has ended the stream.
    ///
    /// # Errors
    /// [`Error::Call`] if it ended with a status other than OK.
    pub async fn close(self) -> Result<(), Error> {
        let Self {
            requests,
            waiting,
            mut pump,
            ..
        } = self;
        drop(requests);
        let _ = (&mut pump.0).await;
        let ended = waiting.state().ended.take().flatten();
        ended.map_or(Ok(()), |status| Err(status.into()))
    }
}

async fn read_all(mut replies: tonic::Streaming<SampleResponse>, to: &Waiting) -> Option<Status> {
    loop {
        match replies.message().await {
            Ok(Some(reply)) => to.hand_out(reply),
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// Adds the next chunk: what is per row came with the first, what is per sample continues.
fn append(whole: &mut SampleResponse, chunk: SampleResponse) {
    whole.samples.extend(chunk.samples);
    whole.raw_samples.extend(chunk.raw_samples);
    whole.ranks.extend(chunk.ranks);
    whole.adaptive_weighted_sum.extend(chunk.adaptive_weighted_sum);
    whole.adaptive_total_weight.extend(chunk.adaptive_total_weight);
    for (ours, theirs) in whole.logprobs.iter_mut().zip(chunk.logprobs) {
        ours.samples.extend(theirs.samples);
        ours.raw_samples.extend(theirs.raw_samples);
    }
    whole.r#final = chunk.r#final;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(id: u64) -> SampleResponse {
        SampleResponse {
            id,
            ..Default::default()
        }
    }

    #[test]
    fn replies_find_their_request_and_strangers_are_dropped() {
        let waiting = Waiting::default();
        let (mut first, seat) = waiting.add(1).unwrap();
        assert!(matches!(waiting.add(1), Err(Error::Config(_))));
        waiting.hand_out(reply(2));
        waiting.hand_out(reply(1));
        assert_eq!(first.try_recv().unwrap().unwrap().id, 1);
        drop(seat);
        assert!(waiting.add(1).is_ok());
    }

    #[test]
    fn all_who_wait_hear_of_the_end() {
        let waiting = Waiting::default();
        let (mut replies, _seat) = waiting.add(1).unwrap();
        waiting.end(Some(Status::unavailable("gone")));
        let error = replies.try_recv().unwrap().unwrap_err();
        assert_eq!(error.code(), Some(tonic::Code::Unavailable));
        assert_eq!(waiting.add(2).unwrap_err().code(), Some(tonic::Code::Unavailable));
    }

    #[test]
    fn chunks_are_put_together() {
        let mut whole = SampleResponse {
            samples: vec![1, 2],
            ..Default::default()
        };
        let last = SampleResponse {
            samples: vec![3],
            r#final: true,
            ..Default::default()
        };
        append(&mut whole, last);
        assert_eq!(whole.samples, [1, 2, 3]);
        assert!(whole.r#final);
    }
}
