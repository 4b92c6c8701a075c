//! The switches of a faulty backend and its counts.

use std::{
    collections::BTreeMap,
    future,
    sync::{Mutex, MutexGuard, PoisonError},
};

use larder_core::{Error, ErrorKind, Result};
use tokio::sync::watch;

/// One method of a backend or of one of its powers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Backend::get_many`](larder_core::Backend::get_many), which `get` uses too.
    GetMany,
    /// [`Backend::set_many`](larder_core::Backend::set_many), which `set` uses too.
    SetMany,
    /// [`Backend::delete_many`](larder_core::Backend::delete_many), which `delete` and `delete_pattern` use too.
    DeleteMany,
    /// [`Backend::ttl_many`](larder_core::Backend::ttl_many), which `ttl` and `exists` use too.
    TtlMany,
    /// [`Backend::expire_many`](larder_core::Backend::expire_many), which `expire` uses too.
    ExpireMany,
    /// [`Backend::ping`](larder_core::Backend::ping).
    Ping,
    /// [`Scan::scan`](larder_core::Scan::scan), counted when its stream is first polled.
    Scan,
    /// [`Atomic::get_or_set`](larder_core::Atomic::get_or_set).
    GetOrSet,
    /// [`Atomic::compare_and_set`](larder_core::Atomic::compare_and_set).
    CompareAndSet,
    /// [`Atomic::compare_and_delete`](larder_core::Atomic::compare_and_delete).
    CompareAndDelete,
    /// [`Counter::increment`](larder_core::Counter::increment).
    Increment,
    /// [`Counter::count`](larder_core::Counter::count).
    Count,
    /// [`Lock::acquire`](larder_core::Lock::acquire).
    Acquire,
    /// [`Lock::extend`](larder_core::Lock::extend).
    Extend,
    /// [`Lock::release`](larder_core::Lock::release).
    Release,
    /// [`BusSource::open_bus`](larder_core::BusSource::open_bus).
    OpenBus,
    /// [`BusSource::remove_and_publish`](larder_core::BusSource::remove_and_publish).
    RemoveAndPublish,
    /// [`Bus::publish`](larder_core::Bus::publish) on a bus that was opened here.
    Publish,
    /// [`Inspect::server_figures`](larder_core::Inspect::server_figures).
    ServerFigures,
    /// [`Inspect::settings`](larder_core::Inspect::settings).
    Settings,
    /// [`Inspect::sample`](larder_core::Inspect::sample), before each page.
    Sample,
}

impl Operation {
    /// The method's name, which errors give as their operation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GetMany => "get_many",
            Self::SetMany => "set_many",
            Self::DeleteMany => "delete_many",
            Self::TtlMany => "ttl_many",
            Self::ExpireMany => "expire_many",
            Self::Ping => "ping",
            Self::Scan => "scan",
            Self::GetOrSet => "get_or_set",
            Self::CompareAndSet => "compare_and_set",
            Self::CompareAndDelete => "compare_and_delete",
            Self::Increment => "increment",
            Self::Count => "count",
            Self::Acquire => "acquire",
            Self::Extend => "extend",
            Self::Release => "release",
            Self::OpenBus => "open_bus",
            Self::RemoveAndPublish => "remove_and_publish",
            Self::Publish => "publish",
            Self::ServerFigures => "server_figures",
            Self::Settings => "settings",
            Self::Sample => "sample",
        }
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fault {
    /// It is passed on.
    #[default]
    None,
    /// It fails with this kind of error and is not passed on.
    Fail(ErrorKind),
    /// It is passed on and takes effect, and then fails with this kind of error, as when a connection breaks before the
    /// answer.
    LoseAnswer(ErrorKind),
    /// It never completes and is not passed on; healing does not help those that hang already.
    Hang,
    /// It waits until something else is set, and then obeys that.
    Hold,
}

#[derive(Debug, Default)]
pub(super) struct Controls {
    switches: watch::Sender<Switches>,
    counts: Mutex<BTreeMap<Operation, u64>>,
    stuck: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Switches {
    all: Fault,
    single: BTreeMap<Operation, Fault>,
    next: Option<(u64, ErrorKind)>,
}

impl Controls {
    pub(super) fn set(&self, fault: Fault) {
        self.switches.send_modify(|switches| {
            switches.all = fault;
            switches.single.clear();
        });
    }

    pub(super) fn set_for(&self, operation: Operation, fault: Fault) {
        self.switches.send_modify(|switches| {
            switches.single.insert(operation, fault);
        });
    }

    pub(super) fn fail_next(&self, count: u64, kind: ErrorKind) {
        self.switches.send_modify(|switches| switches.next = Some((count, kind)));
    }

    pub(super) fn heal(&self) {
        self.switches.send_modify(|switches| *switches = Switches::default());
    }

    pub(super) fn calls(&self) -> u64 {
        self.counts().values().sum()
    }

    pub(super) fn calls_of(&self, operation: Operation) -> u64 {
        self.counts().get(&operation).copied().unwrap_or(0)
    }

    pub(super) fn reset_calls(&self) {
        self.counts().clear();
    }

    pub(super) fn stuck(&self) -> usize {
        *self.stuck.borrow()
    }

    pub(super) async fn until_stuck(&self, count: usize) {
        // The sender lives in `self`, so the wait ends only by the condition.
        drop(self.stuck.subscribe().wait_for(|stuck| *stuck >= count).await);
    }

    /// Counts a call and lets it fail, hang, wait, run, or run and fail.
    pub(super) async fn run<T>(&self, operation: Operation, work: impl Future<Output = T>) -> Result<T> {
        *self.counts().entry(operation).or_default() += 1;
        if let Some(kind) = self.take_next() {
            return Err(failure(operation, kind));
        }
        match self.settled(operation).await {
            Fault::Fail(kind) => Err(failure(operation, kind)),
            Fault::LoseAnswer(kind) => {
                work.await;
                Err(failure(operation, kind))
            }
            Fault::Hang => {
                let _stuck = Stuck::new(&self.stuck);
                future::pending().await
            }
            Fault::None | Fault::Hold => Ok(work.await),
        }
    }

    /// As [`run`](Self::run) for a further step of a call that was counted already.
    pub(super) async fn check(&self, operation: Operation) -> Result<()> {
        match self.settled(operation).await {
            Fault::Fail(kind) | Fault::LoseAnswer(kind) => Err(failure(operation, kind)),
            Fault::Hang => {
                let _stuck = Stuck::new(&self.stuck);
                future::pending().await
            }
            Fault::None | Fault::Hold => Ok(()),
        }
    }

    fn take_next(&self) -> Option<ErrorKind> {
        let mut taken = None;
        self.switches.send_if_modified(|switches| {
            if let Some((count @ 1.., kind)) = &mut switches.next {
                *count -= 1;
                taken = Some(*kind);
            }
            false
        });
        taken
    }

    /// The fault for a call, once it is another one than to wait.
    async fn settled(&self, operation: Operation) -> Fault {
        let mut switches = self.switches.subscribe();
        let fault = switches.borrow_and_update().of(operation);
        if fault != Fault::Hold {
            return fault;
        }
        let _stuck = Stuck::new(&self.stuck);
        let changed = switches.wait_for(|switches| switches.of(operation) != Fault::Hold).await;
        changed.map_or(Fault::None, |switches| switches.of(operation))
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Operation, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Switches {
    fn of(&self, operation: Operation) -> Fault {
        self.single.get(&operation).copied().unwrap_or(self.all)
    }
}

/// Counts a call as stuck until it goes on or is dropped.
struct Stuck<'a>(&'a watch::Sender<usize>);

impl<'a> Stuck<'a> {
    fn new(stuck: &'a watch::Sender<usize>) -> Self {
        stuck.send_modify(|count| *count += 1);
        Self(stuck)
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn failure(operation: Operation, kind: ErrorKind) -> Error {
    Error::new(kind, operation.as_str(), "the test lets this call fail")
}
