use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use larder::{LoadFault, ManualClock, SharedError, cached};
use tokio::sync::Semaphore;

#[derive(Debug, Clone, PartialEq)]
struct Cloned(u32);

static FAILS: AtomicU32 = AtomicU32::new(0);

#[cached(skip(gate))]
async fn failing(gate: &Arc<Semaphore>) -> Result<u8, Cloned> {
    gate.acquire().await.expect("the gate is never closed").forget();
    Err(Cloned(FAILS.fetch_add(1, Ordering::SeqCst)))
}

#[larder::test]
async fn callers_share_an_error_that_can_be_cloned(clock: ManualClock) {
    let gate = Arc::new(Semaphore::new(0));
    let cache = larder::current();
    let callers: Vec<_> = (0..5)
        .map(|_| {
            let (gate, cache) = (Arc::clone(&gate), cache.clone());
            tokio::spawn(larder::with_cache(cache, async move { failing(&gate).await }))
        })
        .collect();
    clock.settle().await;
    gate.add_permits(1);
    for caller in callers {
        assert_eq!(caller.await.unwrap(), Err(Cloned(0)));
    }
    gate.add_permits(1);
    assert_eq!(failing(&gate).await, Err(Cloned(1)));
}

#[derive(Debug)]
enum Shared {
    Own,
    Other(SharedError),
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Error for Shared {}

impl From<SharedError> for Shared {
    fn from(error: SharedError) -> Self {
        Self::Other(error)
    }
}

#[cached]
async fn shared() -> Result<u8, Shared> {
    Err(Shared::Own)
}

#[larder::test]
async fn an_error_may_be_made_from_a_shared_one() {
    let Err(Shared::Other(error)) = shared().await else { panic!("the error is shared") };
    assert!(matches!(error.downcast_ref(), Some(Shared::Own)));
}

#[derive(Debug, PartialEq)]
struct Single(u32);

static SINGLES: AtomicU32 = AtomicU32::new(0);

#[cached(skip(gate))]
async fn single(gate: &Arc<Semaphore>) -> Result<u8, Single> {
    gate.acquire().await.expect("the gate is never closed").forget();
    Err(Single(SINGLES.fetch_add(1, Ordering::SeqCst)))
}

#[larder::test]
async fn an_error_that_cannot_be_shared_goes_to_one_caller_and_the_others_load_anew(clock: ManualClock) {
    let gate = Arc::new(Semaphore::new(0));
    let cache = larder::current();
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (gate, cache) = (Arc::clone(&gate), cache.clone());
            tokio::spawn(larder::with_cache(cache, async move { single(&gate).await.unwrap_err().0 }))
        })
        .collect();
    clock.settle().await;
    gate.add_permits(3);
    let mut seen = Vec::new();
    for caller in callers {
        seen.push(caller.await.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2]);
}

static REMEMBERED: AtomicU32 = AtomicU32::new(0);

#[cached(negative_ttl = "5s", jitter = 0.0)]
async fn remembered() -> Result<u8, Cloned> {
    Err(Cloned(REMEMBERED.fetch_add(1, Ordering::SeqCst)))
}

#[larder::test]
async fn an_error_is_remembered_for_as_long_as_asked(clock: ManualClock) {
    assert_eq!(remembered().await, Err(Cloned(0)));
    assert_eq!(remembered().await, Err(Cloned(0)));
    clock.advance(Duration::from_secs(6));
    assert_eq!(remembered().await, Err(Cloned(1)));
}

#[derive(Debug, Clone, PartialEq)]
enum Told {
    Fault(LoadFault),
}

impl From<LoadFault> for Told {
    fn from(fault: LoadFault) -> Self {
        Self::Fault(fault)
    }
}

#[cached(hard_timeout = "2s")]
async fn endless() -> Result<u8, Told> {
    std::future::pending().await
}

#[larder::test]
async fn a_time_out_is_told_through_the_callers_error(clock: ManualClock) {
    let call = tokio::spawn(larder::with_cache(larder::current(), endless()));
    clock.advance_and_settle(Duration::from_secs(3)).await;
    assert_eq!(call.await.unwrap(), Err(Told::Fault(LoadFault::TimedOut)));
}

#[cached]
async fn broken(id: u8) -> u8 {
    assert!(id > 5, "id {id} is too small");
    id
}

#[larder::test]
#[should_panic(expected = "id 1 is too small")]
async fn a_panic_goes_on_in_the_caller() {
    broken(1).await;
}

#[larder::test]
async fn a_panic_is_a_fault_where_the_error_can_tell_it() {
    #[cached]
    async fn told() -> Result<u8, Told> {
        panic!("boom")
    }
    assert_eq!(told().await, Err(Told::Fault(LoadFault::Panicked("boom".into()))));
}

static POINTED: AtomicU32 = AtomicU32::new(0);

#[cached(skip(gate))]
async fn pointed(gate: &Arc<Semaphore>) -> anyhow::Result<u8> {
    gate.acquire().await?.forget();
    POINTED.fetch_add(1, Ordering::SeqCst);
    Err(anyhow::Error::new(Shared::Own).context("reading the row"))
}

#[larder::test]
async fn callers_share_an_error_that_is_a_pointer_to_one(clock: ManualClock) {
    let gate = Arc::new(Semaphore::new(0));
    let cache = larder::current();
    let callers: Vec<_> = (0..5)
        .map(|_| {
            let (gate, cache) = (Arc::clone(&gate), cache.clone());
            tokio::spawn(larder::with_cache(cache, async move { pointed(&gate).await }))
        })
        .collect();
    clock.settle().await;
    gate.add_permits(5);
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "reading the row");
        assert!(error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Shared::Own))));
    }
    assert_eq!(POINTED.load(Ordering::SeqCst), 1);
}

#[cached]
async fn boxed(id: u8) -> Result<u8, Box<dyn Error + Send + Sync>> {
    if id == 0 { Err("no such row".into()) } else { Ok(id) }
}

#[larder::test]
async fn a_boxed_error_may_be_shared() {
    assert_eq!(boxed(0).await.unwrap_err().to_string(), "no such row");
    assert_eq!(boxed(1).await.unwrap(), 1);
}

/// Points to something that is no error.
#[derive(Debug)]
struct Pointer(String);

impl std::ops::Deref for Pointer {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cached]
async fn pointer() -> Result<u8, Pointer> {
    Err(Pointer("lost".to_owned()))
}

#[larder::test]
async fn an_error_that_points_to_none_goes_to_its_caller() {
    assert_eq!(&*pointer().await.unwrap_err(), "lost");
}

/// A future that needs itself must have its type written down once.
fn again(depth: u32) -> Pin<Box<dyn Future<Output = u32> + Send>> {
    Box::pin(needs_itself(depth - 1))
}

#[cached(skip(depth))]
async fn needs_itself(depth: u32) -> u32 {
    if depth == 0 { 7 } else { again(depth).await }
}

#[larder::test]
async fn a_load_that_needs_itself_runs_in_place_where_the_fault_cannot_be_told() {
    assert_eq!(needs_itself(3).await, 7);
}

fn once_more() -> Pin<Box<dyn Future<Output = Result<u8, Told>> + Send>> {
    Box::pin(endlessly())
}

#[cached]
async fn endlessly() -> Result<u8, Told> {
    once_more().await
}

#[larder::test]
async fn a_load_that_needs_itself_is_a_fault_where_the_error_can_tell_it() {
    assert_eq!(endlessly().await, Err(Told::Fault(LoadFault::Recursive)));
}

static SYNC: AtomicU32 = AtomicU32::new(0);

#[cached(negative_ttl = "5s", jitter = 0.0)]
fn plain() -> Result<u8, Cloned> {
    Err(Cloned(SYNC.fetch_add(1, Ordering::SeqCst)))
}

#[larder::test]
async fn a_plain_functions_error_is_remembered_too(clock: ManualClock) {
    assert_eq!(plain(), Err(Cloned(0)));
    assert_eq!(plain(), Err(Cloned(0)));
    clock.advance(Duration::from_secs(6));
    assert_eq!(plain(), Err(Cloned(1)));
}
