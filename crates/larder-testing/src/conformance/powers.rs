//! What a backend says of itself, and its optional powers as a whole. That those are there which the fixture declares
//! is checked before every case.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use larder_core::{Announcement, BackendExt, BusEvent, ErrorKind, Pattern, SetOptions};

use super::Case;

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A name for logs, the same each time.
pub async fn the_backend_has_a_name_and_gives_a_sign_of_life(case: &Case) {
    let name = case.backend().name().to_owned();
    assert!(!name.is_empty());
    case.backend().ping().await.unwrap();
    assert_eq!(case.backend().name(), name);
}

/// An error that says so, instead of a success that did nothing.
pub async fn a_pattern_without_a_scan_is_unsupported(case: &Case) {
    let key = case.key("k");
    case.put(&key, "v", SetOptions::new()).await;
    let deleted = case.backend().delete_pattern(&Pattern::prefix(case.prefix())).await;
    if case.scan().is_some() {
        assert_eq!(deleted.unwrap(), 1);
    } else {
        assert_eq!(deleted.unwrap_err().kind(), ErrorKind::Unsupported);
        case.assert_value(&key, "v").await;
    }
}

async fn next(events: &mut BoxStream<'static, BusEvent>) -> BusEvent {
    let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("an event arrives in time");
    event.expect("a subscription does not end by itself")
}

/// Everyone on the channel, the sender too, byte for byte and in order, and nobody on another channel.
pub async fn a_message_reaches_those_who_listen(case: &Case) {
    let Some(source) = case.backend().as_bus() else { return };
    let (one, two) = (source.open_bus(case.prefix()).await.unwrap(), source.open_bus(case.prefix()).await.unwrap());
    let elsewhere = source.open_bus(&format!("{}elsewhere", case.prefix())).await.unwrap();
    let [mut first, mut second, mut other] = [one.events(), two.events(), elsewhere.events()];
    for events in [&mut first, &mut second, &mut other] {
        assert_eq!(next(events).await, BusEvent::Confirmed);
    }
    let messages = [Bytes::from("hello"), Bytes::from_static(b"\0\r\n\xff"), Bytes::from("last")];
    for message in &messages {
        // How many the transport knows of says little: a node of a cluster knows only its own.
        one.publish(message.clone()).await.unwrap();
    }
    elsewhere.publish(Bytes::from("for another channel")).await.unwrap();
    for message in messages {
        assert_eq!(next(&mut first).await, BusEvent::Message(message.clone()));
        assert_eq!(next(&mut second).await, BusEvent::Message(message));
    }
    assert_eq!(next(&mut other).await, BusEvent::Message(Bytes::from("for another channel")));
}

/// Each key tells whether it was there, as for a removal alone, and whoever listens hears the message.
pub async fn keys_are_removed_and_told_of_in_one_step(case: &Case) {
    let Some(source) = case.backend().as_bus() else { return };
    let elsewhere = source.open_bus(&format!("{}elsewhere", case.prefix())).await.unwrap();
    let [mut events, mut other] = [source.open_bus(case.prefix()).await.unwrap(), elsewhere].map(|bus| bus.events());
    for events in [&mut events, &mut other] {
        assert_eq!(next(events).await, BusEvent::Confirmed);
    }
    let mut keys = case.keys(20);
    let (absent, kept) = (case.key("absent"), case.key("kept"));
    for key in keys.iter().chain([&kept]) {
        case.put(key, "v", SetOptions::new()).await;
    }
    keys.insert(1, absent);
    keys.push(keys[0].clone());
    let message = Bytes::from_static(b"\0gone\r\n");
    let named = Arc::new(Mutex::new(Vec::new()));
    let (says, names) = (message.clone(), Arc::clone(&named));
    let gone: Announcement = Arc::new(move |keys| {
        names.lock().unwrap().extend_from_slice(keys);
        says.clone()
    });
    let removed = source.remove_and_publish(&keys, case.prefix(), &gone).await;
    let removed: Vec<bool> = removed.into_iter().map(Result::unwrap).collect();
    let there: Vec<bool> = (0..keys.len()).map(|index| index != 1 && index != 21).collect();
    assert_eq!(removed, there, "the second key was absent, and the last is the first once more");
    assert_eq!(next(&mut events).await, BusEvent::Message(message));
    let mut named = std::mem::take(&mut *named.lock().unwrap());
    let mut told = keys.clone();
    named.sort();
    told.sort();
    assert_eq!(named, told, "each key goes in one step, which tells of it");
    for key in &keys {
        case.assert_absent(key).await;
    }
    case.assert_value(&kept, "v").await;
    // How often is open, but not that it comes for keys that were all absent, and nowhere else.
    let says: Announcement = Arc::new(|_| Bytes::from("again"));
    let again = source.remove_and_publish(&keys[..2], case.prefix(), &says).await;
    assert!(again.into_iter().all(|there| !there.unwrap()));
    while next(&mut events).await != BusEvent::Message(Bytes::from("again")) {}
    assert!(source.remove_and_publish(&[], case.prefix(), &gone).await.is_empty());
    source.open_bus(&format!("{}elsewhere", case.prefix())).await.unwrap().publish(Bytes::from("end")).await.unwrap();
    assert_eq!(next(&mut other).await, BusEvent::Message(Bytes::from("end")));
}

/// Where the store knows how many it has.
pub async fn figures_count_the_keys(case: &Case) {
    let Some(inspect) = case.backend().as_inspect() else { return };
    for key in case.keys(10) {
        case.put(&key, "v", SetOptions::new()).await;
    }
    let figures = inspect.server_figures().await.unwrap();
    assert!(figures.keys.is_none_or(|keys| keys >= 10), "{figures:?}");
    assert!(figures.used_bytes.is_none_or(|bytes| bytes >= 10), "{figures:?}");
}
