//! When to try again, and when not.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout_at, Instant};
use tonic::{Code, Status};

use crate::error::{CallError, Error, RetryHint};

/// How often a call is tried, and how long it waits in between. Only calls that change nothing are tried again.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1. Default: 4. 1 turns retries off.
    pub max_attempts: u32,
    /// The first wait is random below this; it doubles each time. Default: 50 ms.
    pub initial_backoff: Duration,
    /// No wait of our own is longer. Default: 2 s.
    pub max_backoff: Duration,
    /// Retries that a client may make in a burst, over all its calls; each uses up one. Default: 20.
    pub budget: f64,
    /// Retries that each successful call gives back. Default: 0.1, at most one for ten such calls in the long run.
    pub budget_refill: f64,
}

/// Bounds the retries of all calls of a client, so that a fleet of clients cannot turn an overload into a storm.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    most: f64,
    refill: f64,
    retries: Mutex<f64>,
}

impl RetryBudget {
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        Self {
            most: policy.budget,
            refill: policy.budget_refill,
            retries: Mutex::new(policy.budget),
        }
    }

    /// Counts a call that succeeded.
    fn deposit(&self) {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        *retries = (*retries + self.refill).min(self.most);
    }

    /// Uses up one retry; false if none is left.
    fn withdraw(&self) -> bool {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left = *retries >= 1.0;
        if is_left {
            *retries -= 1.0;
        }
        is_left
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            initial_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(2),
            budget: 20.0,
            budget_refill: 0.1,
        }
    }
}

impl RetryPolicy {
    /// How long to wait after the attempt-th failure, from 1; `None`: do not try again.
    fn wait(&self, attempt: u32, error: &CallError) -> Option<Duration> {
        // A caller who gives up drops the call, so CANCELLED is a server's or a proxy's that ends its connections.
        let transient = matches!(
            error.code,
            Code::ResourceExhausted | Code::Unavailable | Code::Cancelled
        );
        if attempt >= self.max_attempts || !transient {
            return None;
        }
        match error.retry {
            RetryHint::Never => None,
            RetryHint::After(exactly) => Some(exactly),
            RetryHint::None => {
                let doubled = self.initial_backoff.saturating_mul(1 << (attempt - 1).min(30));
                Some(doubled.min(self.max_backoff).mul_f64(fastrand::f64()))
            }
        }
    }
}

/// Makes attempts until one succeeds, the policy has enough, the budget is used up, or the deadline leaves no time for
/// another.
pub(crate) async fn with_retries<T, F, A>(
    policy: &RetryPolicy,
    budget: &RetryBudget,
    deadline: Instant,
    attempt: A,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Status>>,
    A: Fn() -> F,
{
    let mut made = 0;
    loop {
        let error = match timeout_at(deadline, attempt()).await {
            Ok(Ok(reply)) => {
                budget.deposit();
                return Ok(reply);
            }
            // tonic ends a call at its grpc-timeout as CANCELLED, which is not what happened.
            Ok(Err(status)) if status.code() == Code::Cancelled && Instant::now() >= deadline => CallError::deadline(),
            Ok(Err(status)) => CallError::from(status),
            Err(_) => CallError::deadline(),
        };
        made += 1;
        match policy.wait(made, &error) {
            Some(wait) if Instant::now() + wait < deadline && budget.withdraw() => sleep(wait).await,
            _ => return Err(Box::new(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn refusal(code: Code, pushback: Option<&'static str>) -> Status {
        let mut status = Status::new(code, "refused");
        if let Some(text) = pushback {
            let value = tonic::metadata::MetadataValue::from_static(text);
            status.metadata_mut().insert("grpc-retry-pushback-ms", value);
        }
        status
    }

    async fn attempts(timeout: Duration, refused: Status) -> u32 {
        let made = Cell::new(0);
        let policy = RetryPolicy::default();
        let budget = RetryBudget::new(&policy);
        let result: Result<(), Error> = with_retries(&policy, &budget, Instant::now() + timeout, || {
            made.set(made.get() + 1);
            let refused = refused.clone();
            async move { Err(refused) }
        })
        .await;
        assert!(result.is_err());
        made.get()
    }

    #[tokio::test]
    async fn only_what_may_succeed_later_is_tried_again() {
        let long = Duration::from_secs(60);
        assert_eq!(attempts(long, refusal(Code::Unavailable, Some("1"))).await, 4);
        assert_eq!(attempts(long, refusal(Code::ResourceExhausted, None)).await, 4);
        assert_eq!(attempts(long, refusal(Code::Cancelled, None)).await, 4);
        assert_eq!(attempts(long, refusal(Code::InvalidArgument, None)).await, 1);
        assert_eq!(attempts(long, refusal(Code::ResourceExhausted, Some("-1"))).await, 1);
        assert_eq!(attempts(long, refusal(Code::ResourceExhausted, Some("x"))).await, 1);
    }

    #[tokio::test]
    async fn no_wait_goes_past_the_deadline() {
        let start = Instant::now();
        let refused = refusal(Code::ResourceExhausted, Some("60000"));
        assert_eq!(attempts(Duration::from_millis(500), refused).await, 1);
        assert!(start.elapsed() < Duration::from_millis(400));
    }

    #[tokio::test]
    async fn the_budget_bounds_the_retries_of_all_calls() {
        let policy = RetryPolicy {
            budget: 5.0,
            budget_refill: 0.5,
            ..RetryPolicy::default()
        };
        let (budget, count) = (RetryBudget::new(&policy), Cell::new(0));
        let made = &count;
        let call = |is_refused: bool| {
            let deadline = Instant::now() + Duration::from_secs(60);
            with_retries(&policy, &budget, deadline, move || {
                made.set(made.get() + 1);
                let refused = refusal(Code::Unavailable, Some("1"));
                async move {
                    if is_refused {
                        Err(refused)
                    } else {
                        Ok(())
                    }
                }
            })
        };
        for _ in 0..10 {
            assert!(call(true).await.is_err());
        }
        assert_eq!(made.take(), 10 + 5);
        assert!(call(false).await.is_ok() && call(false).await.is_ok());
        made.set(0);
        assert!(call(true).await.is_err());
        assert_eq!(made.get(), 2); // the two successes gave one retry back
    }

    #[test]
    fn back_off_is_jittered_and_bounded() {
        let policy = RetryPolicy {
            max_attempts: 100,
            ..RetryPolicy::default()
        };
        let error = CallError::from(Status::unavailable("away"));
        for attempt in 1..99 {
            assert!(policy.wait(attempt, &error).unwrap() <= policy.max_backoff);
        }
        assert!(policy.wait(1, &error).unwrap() <= Duration::from_millis(50));
    }
}
