//! The faulty decorator.

use std::sync::Arc;

use futures_util::{TryStreamExt, poll};
use larder_core::{Backend, BackendExt, Bytes, ErrorKind, GetOptions, Key, Pattern, SetItem, SetOptions, SetOutcome};
use larder_testing::{Fault, FaultyBackend, ManualClock, ModelBackend, Operation};

fn backend() -> (FaultyBackend, Key) {
    let model = ModelBackend::new(Arc::new(ManualClock::new()));
    (FaultyBackend::new(Arc::new(model)), Key::new("k"))
}

async fn put(backend: &dyn Backend, key: &Key) -> larder_core::Result<SetOutcome> {
    backend.set(key, Bytes::from("v"), SetOptions::new()).await
}

#[tokio::test]
async fn it_passes_everything_on_and_counts() {
    let (backend, key) = backend();
    put(&backend, &key).await.unwrap();
    assert_eq!(backend.get(&key).await.unwrap(), Some(Bytes::from("v")));
    assert_eq!(backend.get(&key).await.unwrap(), Some(Bytes::from("v")));
    assert_eq!((backend.calls(), backend.calls_of(Operation::GetMany)), (3, 2));
    backend.reset_calls();
    assert_eq!((backend.calls(), backend.calls_of(Operation::GetMany)), (0, 0));
}

#[tokio::test]
async fn a_failure_names_operation_and_key_and_reaches_nothing() {
    let (backend, key) = backend();
    backend.fail(ErrorKind::Timeout);
    let error = put(&backend, &key).await.unwrap_err();
    assert_eq!((error.kind(), error.operation(), error.key()), (ErrorKind::Timeout, "set_many", Some(&key)));
    assert_eq!(backend.ping().await.unwrap_err().kind(), ErrorKind::Timeout);
    let items = [SetItem::new(key.clone(), "v", SetOptions::new()), SetItem::new(key.clone(), "v", SetOptions::new())];
    assert_eq!(backend.set_many(&items).await.len(), 2);
    assert!(backend.get_many(&[], GetOptions::new()).await.is_empty());
    let counter = backend.as_counter().unwrap();
    assert_eq!(counter.increment(&key, 1, None).await.unwrap_err().key(), Some(&key));
    backend.heal();
    assert_eq!(backend.get(&key).await.unwrap(), None);
}

#[tokio::test]
async fn one_operation_can_fail_alone() {
    let (backend, key) = backend();
    backend.set_for(Operation::SetMany, Fault::Fail(ErrorKind::OutOfMemory));
    assert_eq!(put(&backend, &key).await.unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(backend.get(&key).await.unwrap(), None);
    backend.set(Fault::None);
    assert!(put(&backend, &key).await.is_ok());
}

#[tokio::test]
async fn a_number_of_calls_can_fail() {
    let (backend, key) = backend();
    backend.fail_next(2, ErrorKind::Unavailable);
    assert!(put(&backend, &key).await.is_err());
    assert!(backend.get(&key).await.is_err());
    assert!(put(&backend, &key).await.is_ok());
}

#[tokio::test]
async fn a_lost_answer_has_taken_effect() {
    let (backend, key) = backend();
    backend.set(Fault::LoseAnswer(ErrorKind::Timeout));
    let counter = backend.as_counter().unwrap();
    assert_eq!(counter.increment(&key, 1, None).await.unwrap_err().kind(), ErrorKind::Timeout);
    backend.heal();
    assert_eq!(counter.count(&key).await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_hanging_call_never_completes_even_after_healing() {
    let (backend, key) = backend();
    backend.hang();
    let mut call = Box::pin(put(&backend, &key));
    assert!(poll!(&mut call).is_pending());
    assert_eq!(backend.stuck(), 1);
    backend.heal();
    assert!(poll!(&mut call).is_pending());
    drop(call);
    assert_eq!(backend.stuck(), 0);
    assert!(backend.inner().get(&key).await.unwrap().is_none());
}

#[tokio::test]
async fn a_held_call_goes_on_with_what_is_set_next() {
    let (backend, key) = backend();
    backend.set(Fault::Hold);
    let (writer, name) = (backend.clone(), key.clone());
    let write = tokio::spawn(async move { put(&writer, &name).await });
    backend.until_stuck(1).await;
    assert!(backend.inner().get(&key).await.unwrap().is_none());
    backend.heal();
    assert_eq!(write.await.unwrap().unwrap(), SetOutcome::Stored);
    backend.set(Fault::Hold);
    let reader = backend.clone();
    let read = tokio::spawn(async move { reader.get(&key).await });
    backend.until_stuck(1).await;
    backend.fail(ErrorKind::Unavailable);
    assert_eq!(read.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_scan_can_fail_in_its_midst() {
    let (backend, _) = backend();
    for number in 0..10 {
        put(&backend, &Key::new(&number)).await.unwrap();
    }
    let pattern = Pattern::everything();
    let mut pages = backend.as_scan().unwrap().scan(&pattern, 4);
    assert_eq!(pages.try_next().await.unwrap().unwrap().len(), 4);
    backend.fail(ErrorKind::Unavailable);
    assert_eq!(pages.try_next().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(backend.calls_of(Operation::Scan), 1);
}

#[tokio::test]
async fn a_bus_can_fail_to_publish() {
    let (backend, _) = backend();
    let bus = backend.as_bus().unwrap().open_bus("c").await.unwrap();
    backend.set_for(Operation::Publish, Fault::Fail(ErrorKind::Unavailable));
    assert_eq!(bus.publish(Bytes::from("m")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(backend.calls_of(Operation::Publish), 1);
}
