//! The bus: Redis pub/sub.
//!
//! A subscription has a connection of its own, kept by a task that ends with the stream. Messages pass through a bounded
//! queue to the stream's reader. Whatever may have cost a message (a break, a silent link, a reader that fell behind) ends
//! in the same way: [`BusEvent::Lost`], a new connection, and after the server's own confirmation [`BusEvent::Confirmed`].

use std::{pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use larder_core::{Bus, BusEvent, BusSource, Bytes, Result, SystemClock, Timer};
use redis::{
    Client, RedisResult,
    aio::{PubSubSink, PubSubStream},
};
use tokio::{
    sync::mpsc::{self, Receiver, Sender, error::TrySendError},
    task::AbortHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{RedisBackend, RedisConfig, backend::Channel, manager::Request, reply, sockets::Call};
