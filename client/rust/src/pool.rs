//! The connections that calls take turns on, and the health of the servers behind them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::v1::sampler_service_client::SamplerServiceClient;

type Stub = SamplerServiceClient<Channel>;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// `HealthCheckResponse.SERVING`.
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`; written out, as so small a contract is not worth a dependency.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// What is known of a server over one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Serving,
    NotServing,
}

/// Connections to one server are used as they are. Those to several are watched (grpc.health.v1), which tonic's own
/// balancing does not do: a server that starts, drains or is gone gets no calls.
#[derive(Debug)]
pub(crate) struct Pool {
    stubs: Vec<Stub>,
    health: watch::Sender<Vec<Health>>,
    turn: AtomicUsize,
    _watchers: JoinSet<()>, // they end with the pool
}

impl Pool {
    /// Takes over the channels; `is_watched`: only those whose server says that it serves are used.
    pub(crate) fn new(channels: Vec<Channel>, max_reply_bytes: usize, is_watched: bool) -> Self {
        let first = if is_watched { Health::Unknown } else { Health::Serving };
        let (health, _) = watch::channel(vec![first; channels.len()]);
        let mut watchers = JoinSet::new();
        if is_watched {
            for (index, channel) in channels.iter().enumerate() {
                watchers.spawn(watch_for_ever(channel.clone(), health.clone(), index));
            }
        }
        let stub = |channel| {
            SamplerServiceClient::new(channel)
                .max_decoding_message_size(max_reply_bytes)
                .max_encoding_message_size(usize::MAX) // the server's limit is the one that counts
        };
        Self {
            stubs: channels.into_iter().map(stub).collect(),
            health,
            turn: AtomicUsize::new(0),
            _watchers: watchers,
        }
    }

    /// The connection whose turn it is, among those that serve. Waits while none does and some have not said.
    pub(crate) async fn next(&self) -> Result<Stub, Status> {
        let mut news = self.health.subscribe();
        loop {
            let is_any_unknown = {
                let health = news.borrow_and_update();
                if let Some(index) = self.turn_of(&health, |one| one == Health::Serving) {
                    return Ok(self.stubs[index].clone());
                }
                health.contains(&Health::Unknown)
            };
            if !is_any_unknown || news.changed().await.is_err() {
                return Err(Status::unavailable("none of the servers is serving"));
            }
        }
    }

    /// The connection whose turn it is, among those that serve, or among all where that is not known of any.
    pub(crate) fn now(&self) -> Stub {
        let health = self.health.borrow();
        let index = self.turn_of(&health, |one| one == Health::Serving);
        self.stubs[index.or_else(|| self.turn_of(&health, |_| true)).unwrap_or(0)].clone()
    }

    fn turn_of(&self, health: &[Health], is_fit: impl Fn(Health) -> bool) -> Option<usize> {
        (0..health.len())
            .map(|_| self.turn.fetch_add(1, Ordering::Relaxed) % health.len())
            .find(|index| is_fit(health[*index]))
    }
}

async fn watch_for_ever(channel: Channel, health: watch::Sender<Vec<Health>>, index: usize) {
    let become_ = |now| {
        health.send_if_modified(|all| std::mem::replace(&mut all[index], now) != now);
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let ended = watch_once(channel.clone(), |is_serving| {
            pause = FIRST_PAUSE;
            become_(if is_serving {
                Health::Serving
            } else {
                Health::NotServing
            });
        })
        .await;
        // As gRPC has it: a server that knows no health is taken for healthy, as long as it is there.
        let knows_none = ended.is_err_and(|status| status.code() == Code::Unimplemented);
        become_(if knows_none {
            Health::Serving
        } else {
            Health::NotServing
        });
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

async fn watch_once(channel: Channel, mut told: impl FnMut(bool)) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    let ready = grpc.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = Request::new(HealthCheckRequest {
        service: "samplerd.v1.SamplerService".to_owned(),
    });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Watch");
    let codec = tonic::codec::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let mut replies = grpc.server_streaming(request, path, codec).await?.into_inner();
    while let Some(reply) = replies.message().await? {
        told(reply.status == SERVING);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(is_watched: bool, number: usize) -> Pool {
        let endpoint = tonic::transport::Endpoint::from_static("http://127.0.0.1:1");
        Pool::new((0..number).map(|_| endpoint.connect_lazy()).collect(), 1, is_watched)
    }

    #[tokio::test]
    async fn calls_take_turns_on_what_serves() {
        let pool = pool(false, 3);
        let turns = |pool: &Pool| -> Vec<_> {
            let health = pool.health.borrow();
            (0..4)
                .map(|_| pool.turn_of(&health, |one| one == Health::Serving).unwrap())
                .collect()
        };
        assert_eq!(turns(&pool), [0, 1, 2, 0]);
        pool.health.send_modify(|all| all[1] = Health::NotServing);
        assert_eq!(turns(&pool), [2, 0, 2, 0]);
        assert!(pool.next().await.is_ok());
        pool.health.send_modify(|all| all.fill(Health::NotServing));
        assert_eq!(pool.next().await.unwrap_err().code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn a_call_waits_for_servers_that_have_not_said() {
        let pool = std::sync::Arc::new(pool(false, 2));
        pool.health.send_modify(|all| all.fill(Health::Unknown));
        let call = tokio::spawn({
            let pool = pool.clone();
            async move { pool.next().await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!call.is_finished());
        pool.health.send_modify(|all| all[1] = Health::Serving);
        assert!(call.await.unwrap());
    }

    #[tokio::test]
    async fn servers_that_are_not_there_are_not_waited_for() {
        let pool = pool(true, 2); // nobody listens on port 1
        assert_eq!(pool.next().await.unwrap_err().code(), Code::Unavailable);
    }
}
