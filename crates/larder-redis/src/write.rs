//! Writing, removing, and changing how long keys live.

use larder_core::{
    Condition, Each, Error, ErrorKind, Expiry, Key, Result, SetItem, SetOptions, SetOutcome, Ttl, check_size,
    ttl_millis,
};
use redis::{Cmd, Pipeline, Value};

use crate::{
    answer,
    batch::to_each,
    error::unexpected,
    sockets::{Repeat, Sockets},
};

/// What one item of a write comes to.
struct Write {
    command: Cmd,
    read: fn(&Value) -> Result<SetOutcome>,
}

pub(crate) async fn set_part(sockets: &Sockets, items: &[SetItem]) -> Each<SetOutcome> {
    let limit = sockets.config().max_value_bytes;
    let writes: Vec<Result<Write>> = items.iter().map(|item| set_command(item, limit)).collect();
    let mut pipeline = Pipeline::with_capacity(items.len());
    for write in writes.iter().flatten() {
        pipeline.add_command(write.command.clone());
    }
    if pipeline.is_empty() {
        return writes.into_iter().map(|write| write.and(Err(unexpected("set_many", "there")))).collect();
    }
    let sent = sockets.pipeline("set_many", &pipeline, Repeat::Never).await;
    let mut answers = sent.map(Vec::into_iter);
    let mut outcome = |write: Write| match &mut answers {
        Ok(answers) => (write.read)(&answers.next().unwrap_or_else(|| Err(unexpected("set_many", "complete")))?),
        Err(error) => Err(error.clone()),
    };
    let each = items.iter().zip(writes);
    each.map(|(item, write)| write.and_then(&mut outcome).map_err(|error| error.with_key(&item.key))).collect()
}

fn set_command(item: &SetItem, limit: usize) -> Result<Write> {
    check_size("set_many", &item.key, item.value.len(), limit)?;
    let key = item.key.as_str();
    let millis = match expiry_of("set_many", item.options)? {
        SetExpiry::Gone => return removal(key, item.options.condition),
        other => other,
    };
    let mut command = Cmd::with_capacity(6, key.len() + item.value.len() + 32);
    command.arg("SET").arg(key).arg(item.value.as_ref());
    match millis {
        SetExpiry::Millis(millis) => command.arg("PX").arg(millis),
        SetExpiry::Keep => command.arg("KEEPTTL"),
        SetExpiry::Never | SetExpiry::Gone => &mut command,
    };
    match item.options.condition {
        Condition::Always => &mut command,
        Condition::IfAbsent => command.arg("NX"),
        Condition::IfPresent => command.arg("XX"),
        _ => return Err(unknown("set_many", "condition")),
    };
    Ok(Write { command, read: |value| answer::outcome("set_many", value) })
}

/// A value that lives for no time: what stands there goes, if the condition lets it.
fn removal(key: &str, condition: Condition) -> Result<Write> {
    let (name, read): (_, fn(&Value) -> Result<SetOutcome>) = match condition {
        Condition::Always => ("UNLINK", |value| answer::flag("set_many", value).map(|_| SetOutcome::Stored)),
        Condition::IfPresent => ("UNLINK", |value| answer::flag("set_many", value).map(outcome_of)),
        Condition::IfAbsent => ("EXISTS", |value| answer::flag("set_many", value).map(|there| outcome_of(!there))),
        _ => return Err(unknown("set_many", "condition")),
    };
    let mut command = Cmd::new();
    command.arg(name).arg(key);
    Ok(Write { command, read })
}

fn outcome_of(held: bool) -> SetOutcome {
    if held { SetOutcome::Stored } else { SetOutcome::Rejected }
}

/// How long a written value lives, as Redis is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetExpiry {
    Never,
    Millis(u64),
    Keep,
    /// Not at all.
    Gone,
}

pub(crate) fn expiry_of(operation: &'static str, options: SetOptions) -> Result<SetExpiry> {
    match options.ttl {
        Ttl::Forever => Ok(SetExpiry::Never),
        Ttl::Keep => Ok(SetExpiry::Keep),
        Ttl::For(duration) => Ok(match ttl_millis(duration) {
            None => SetExpiry::Never,
            Some(0) => SetExpiry::Gone,
            Some(millis) => SetExpiry::Millis(millis),
        }),
        _ => Err(unknown(operation, "ttl")),
    }
}

/// An option of a newer core than this backend was written for.
fn unknown(operation: &'static str, field: &'static str) -> Error {
    let message = format!("`{field}` has a form that the redis backend does not know");
    Error::new(ErrorKind::Unsupported, operation, message)
}

pub(crate) async fn delete_part(sockets: &Sockets, keys: &[Key]) -> Each<bool> {
    flags(sockets, "delete_many", keys, |pipeline, key| {
        pipeline.cmd("UNLINK").arg(key);
    })
    .await
}

pub(crate) async fn expire_part(sockets: &Sockets, keys: &[Key], expiry: Expiry) -> Each<bool> {
    let change = match expiry {
        Expiry::After(duration) => match ttl_millis(duration) {
            None => Life::Lasting,
            Some(0) => Life::Over,
            Some(millis) => Life::For(millis),
        },
        // What lies beyond the server's range of time never comes.
        Expiry::At(time) => i64::try_from(time.0).map_or(Life::Lasting, Life::Until),
        Expiry::Never => Life::Lasting,
        _ => return to_each(keys.iter(), &unknown("expire_many", "expiry")),
    };
    flags(sockets, "expire_many", keys, |pipeline, key| {
        match change {
            Life::For(millis) => pipeline.cmd("PEXPIRE").arg(key).arg(millis),
            Life::Until(time) => pipeline.cmd("PEXPIREAT").arg(key).arg(time),
            Life::Over => pipeline.cmd("UNLINK").arg(key),
            // PERSIST says 0 of a key that is lasting already, so what counts is whether it is there.
            Life::Lasting => pipeline.cmd("PERSIST").arg(key).cmd("EXISTS").arg(key),
        };
    })
    .await
}

#[derive(Clone, Copy)]
enum Life {
    For(u64),
    Until(i64),
    Over,
    Lasting,
}

/// The same commands for each key; the last one's answer says whether the key was there.
async fn flags(
    sockets: &Sockets,
    operation: &'static str,
    keys: &[Key],
    add: impl Fn(&mut Pipeline, &str),
) -> Each<bool> {
    let mut pipeline = Pipeline::with_capacity(keys.len());
    keys.iter().for_each(|key| add(&mut pipeline, key.as_str()));
    let per_key = (pipeline.len() / keys.len().max(1)).max(1);
    match sockets.pipeline(operation, &pipeline, Repeat::Never).await {
        Err(error) => to_each(keys.iter(), &error),
        Ok(answers) => {
            let each = keys.iter().zip(answers.chunks(per_key));
            each.map(|(key, answers)| flag_of(operation, answers).map_err(|error| error.with_key(key))).collect()
        }
    }
}

fn flag_of(operation: &'static str, answers: &[Result<Value>]) -> Result<bool> {
    let mut was_there = false;
    for answer in answers {
        was_there = answer::flag(operation, answer.as_ref().map_err(Error::clone)?)?;
    }
    Ok(was_there)
}
